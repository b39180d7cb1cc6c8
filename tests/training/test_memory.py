"""Freed memory stays in the process, where the C library can be told so."""

import subprocess
import sys

import pytest

WORK = """
import resource, sys, torch
from mqbench.training._memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    return [torch.ones(2_000_000) for _ in range(8)]  # 64 MB, in blocks that the heap holds
step(); step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_steps_do_not_fault_their_memory_in_again() -> None:
    faults = {}
    for mode in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", WORK, mode], check=True, capture_output=True, text=True)
        faults[mode] = int(done.stdout)
    # of 4 KiB; 47,000 would be everything, and huge pages may make it few for both
    assert faults["keep"] < 5000
    assert faults["keep"] <= faults["leave"]
