"""Every call of the command that help and documentation print is one that the command takes."""

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cyclopts import CycloptsError

from mqbench.cli import app, examples

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "notebooks").glob("*.md")),
]
COMMANDS: Any = import_module("mqbench.commands")


def check(line: str) -> None:
    words = shlex.split(re.sub(r" > \S+ 2>&1 &$", "", line), comments=True)
    while words[-1] in ("&", "..."):
        words.pop()
    try:
        app.parse_args(words[words.index("mqbench") + 1 :], print_error=False, exit_on_error=False)
    except CycloptsError as error:
        pytest.fail(f"{line}: {error}")


@pytest.mark.parametrize("name", [*COMMANDS])
def test_a_command_has_examples_that_it_takes(name: str) -> None:
    lines = examples(COMMANDS[name]).split("\n")
    assert [line for line in lines if f"mqbench {name}" in line]
    for line in filter(None, lines):
        check(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_ones_that_there_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.split("\n"):
            if re.match(r"(\$ |\w+=\S+ |torchrun .*-m |srun .*)?mqbench \w", line):
                check(line.removeprefix("$ "))
