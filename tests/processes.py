"""Other processes, for the tests that start and kill them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import mqbench


def environment() -> dict[str, str]:
    """Of a process that can import the package and the modules of this folder."""
    folders = [str(Path(mqbench.__file__).parents[1]), str(Path(__file__).parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition, and fail if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)
