"""docs/extending.md, followed as a user would: its files in a folder outside the package, its commands."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [c.replace("\\\n", " ") for c in re.findall(r"```\n(mqbench .*?)```", PAGE, re.DOTALL)]


def mqbench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mqbench", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_page_has_its_examples() -> None:
    assert set(FILES) == {"ewgs.py", "halfmax.py", "my_npu.py", "plain_net.py", "polite.py"}
    assert len(COMMANDS) == 3


@pytest.mark.parametrize("command", COMMANDS, ids=["algorithm", "all", "executor"])
def test_the_commands_run(folder: Path, command: str) -> None:
    arguments = [*shlex.split(command)[1:], "--epochs", "1", "--float-epochs", "1", "--jobs", "1", "--json"]
    result = mqbench(folder, *arguments)
    assert result.returncode == 0, result.stderr
    outcomes = json.loads(result.stdout)["outcomes"]
    assert outcomes["ok"] >= 2
    assert outcomes["failed"] == 0


def test_loaded_entries_are_listed(folder: Path) -> None:
    result = mqbench(folder, "list", "algorithms", "--load", "ewgs.py")
    assert "EWGS: the straight-through gradient" in result.stdout


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("lsq.py", "ALGORITHM = None\n", "already exists"),
        ("empty.py", "x = 1\n", "defines none of ALGORITHM"),
        ("broken.py", "ALGORITHM = (\n", "line 1"),
        ("missing.py", None, "No such file"),
    ],
)
def test_files_that_cannot_be_loaded(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    result = mqbench(tmp_path, "run", "--load", name, "--algorithm", "lsq")
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
