"""docs/extending.md, followed as a user would: its files in a folder outside the package, its commands."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from processes import environment

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [c.replace("\\\n", " ") for c in re.findall(r"```\n(mqbench .*?)```", PAGE, re.DOTALL)]


def mqbench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mqbench", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ}
    )


def write(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """What came of each command, in a process and a folder of its own."""
    place = tmp_path_factory.mktemp("extending")
    folders = [str(write(place / str(number))) for number in range(len(COMMANDS))]
    options = ["--epochs", "1", "--float-epochs", "1", "--jobs", "1", "--json"]
    commands = [[*shlex.split(command)[1:], *options] for command in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-m", "forking", *folders],
        input=json.dumps(commands), env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(COMMANDS, json.loads(done.stdout), strict=True))


def test_the_page_has_its_examples() -> None:
    assert set(FILES) == {"ewgs.py", "halfmax.py", "my_npu.py", "plain_net.py", "polite.py"}
    assert len(COMMANDS) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("command", COMMANDS, ids=["algorithm", "all", "executor"])
def test_the_commands_run(made: dict[str, tuple[int, str, str]], command: str) -> None:
    code, said, error = made[command]
    assert code == 0, error
    outcomes = json.loads(said)["outcomes"]
    assert outcomes["ok"] >= 2
    assert outcomes["failed"] == 0


def test_loaded_entries_are_listed(tmp_path: Path) -> None:
    result = mqbench(write(tmp_path), "list", "algorithms", "--load", "ewgs.py")
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
