"""Commands, each in a fork of one process that has imported what training needs: says what came of each.

    python -m forking FOLDER ...

Each runs in the folder of its place; standard input has a list of them, as lists of words. Gives a list of (exit code,
standard output, standard error).
"""

import json
import os
import sys
from pathlib import Path

import mqbench.data.digits
import mqbench.runner  # noqa: F401  before the forks, so that torch and the like are imported once
from mqbench import cli


def forked(folder: Path, command: list[str]) -> tuple[int, str, str]:
    """What a command ends with, and says, in a folder."""
    said = [folder.with_suffix(f".{name}") for name in ("out", "err")]
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for number, path in enumerate(said, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        code = cli.main(command)
        sys.stdout.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = (path.read_text() for path in said)
    return code, out, err


if __name__ == "__main__":
    found = [
        forked(Path(place), words) for place, words in zip(sys.argv[1:], json.load(sys.stdin), strict=True)
    ]
    json.dump(found, sys.stdout)
