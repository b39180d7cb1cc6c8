"""The cases of Ray, in a process of their own.

A process that has joined a cluster may end a minute after the cluster does, whatever it is at then: Ray's client leaves
without a word when a request of its own finds nobody. A worker of the tests must not.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from processes import environment

pytest.importorskip("ray")

HERE = Path(__file__).parent


@pytest.mark.parametrize("mark", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_what_holds_of_ray(mark: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-o", f"pythonpath={HERE} {HERE.parent}", "-m", mark]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, HERE / "ray_cases.py"],
        env=environment(), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
