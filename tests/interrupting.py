"""A command interrupted at one place after the other, each time in a folder of its own: says what came of each.

    python -m interrupting FOLDER COMMAND MODULE ...

The modules are imported before the forks, so that it is done once. Standard input has a list of (name, target, call,
done, signal), as `arm` takes them. Gives a list of (exit code, what was said on standard error) and leaves the folders
``0``, ``1``, ..., copies of FOLDER.
"""

import json
import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from arming import arm
from mqbench import cli


def interrupted(folder: Path, copy: Path, command: list[str], target: tuple[Any, ...]) -> tuple[int, str]:
    """What a command ends with, and says, in a copy of a folder."""
    shutil.copytree(folder, copy)
    said = copy.with_suffix(".txt")
    child = os.fork()
    if child == 0:
        os.chdir(copy)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        arm(*target)
        os._exit(cli.main(command))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, said.read_text()


if __name__ == "__main__":
    place, words = Path(sys.argv[1]), sys.argv[2].split()
    for module in sys.argv[3:]:
        import_module(module)
    found = [
        interrupted(place, place.parent / str(number), words, tuple(target))
        for number, (_, *target) in enumerate(json.load(sys.stdin))
    ]
    json.dump(found, sys.stdout)
