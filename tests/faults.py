"""Ten deliberate faults in the numerics, each put into a copy of the project: some test must fail.

Prints for each fault the first test that caught it, and exits 1 if one was not caught.

    python tests/faults.py            # all
    python tests/faults.py rounding   # those with this word in their name
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    """One line that is wrong.

    Args:
        name: what is wrong.
        file: below ``src/mqbench``.
        right, wrong: the text that is there once, and what takes its place.
        tests: where it should be caught, the narrowest place first.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


CONFORMANCE = "tests/test_conformance.py"
CONTRACT = "tests/algorithms/test_quantizer_contract.py"
FAULTS = [
    Fault("rounding: half up instead of half to even", "functional.py",
          "torch.round(x / scale)\n    if zero_point is None:\n        return torch.clamp(",
          "torch.floor(x / scale + 0.5)\n    if zero_point is None:\n        return torch.clamp(",
          (CONFORMANCE, CONTRACT, "tests/test_conversion.py")),
    Fault("a missing gradient: that of LSQ's zero point", "algorithms/lsq.py",
          "else (dx - gradient) * scale", "else gradient * 0.0", (CONFORMANCE, "tests/algorithms/test_gradients.py")),
    Fault("a swapped zero point: added where it is subtracted", "functional.py",
          "return (q - zero_point).to(scale.dtype) * scale", "return (q + zero_point).to(scale.dtype) * scale",
          (CONFORMANCE, CONTRACT, "tests/test_conversion.py")),
    Fault("an off-by-one range: one integer more at the top", "scheme.py",
          "return 2 ** (self.bits - 1) - 1 if", "return 2 ** (self.bits - 1) if", (CONFORMANCE,)),
    Fault("a gradient scale: of the number of channels, not of elements", "algorithms/lsq.py",
          "elements = max(x.numel() // self.step_size.numel(), 1)", "elements = max(self.step_size.numel(), 1)",
          (CONFORMANCE, "tests/algorithms/test_gradients.py")),
    Fault("batch norm: the biased variance in the running statistics", "fused/norm.py",
          "(v * correction - running_var)", "(v - running_var)", ("tests/test_folding.py",)),
    Fault("folding: gamma is forgotten in the folded weight", "folding/_base.py",
          "return 1 / deviation if self.gamma is None else self.gamma / deviation", "return 1 / deviation",
          ("tests/test_folding.py",)),
    Fault("an observer: the sum of magnitudes instead of the mean", "observers/norm.py",
          "self._statistic.total / self.count", "self._statistic.total", (CONFORMANCE, "tests/observers")),
    Fault("integers: the input's zero point is not taken out of the sum", "deploy/integer.py",
          "operation((x - x_zero_point).double()", "operation(x.double()", (CONFORMANCE, "tests/deploy")),
    Fault("the schedule: a cosine that ends at half the rate", "training/_schedule.py",
          "return 0.5 * (1 + math.cos", "return 0.5 * (1.5 + 0.5 * math.cos",
          ("tests/training", "tests/test_schedule.py")),
]  # fmt: skip


def caught_by(fault: Fault) -> str | None:
    """The first test that fails where the fault is, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, Path(scratch, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", scratch)
        path = Path(scratch, "src", "mqbench", fault.file)
        text = path.read_text(encoding="utf-8")
        if text.count(fault.right) != 1:
            raise SystemExit(f"{fault.file} must have once: {fault.right!r}")
        path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(Path(scratch, "src"))}
        for tests in fault.tests:
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:randomly",
                "-m",
                "not slow",
                tests,
            ]
            done = subprocess.run(
                command, cwd=scratch, env=environment, capture_output=True, text=True, check=False
            )
            found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
            if found is not None:
                return found[1]
    return None


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    missed = 0
    for fault in (fault for fault in FAULTS if word in fault.name):
        test = caught_by(fault)
        missed += test is None
        print(f"{fault.name}: {test or 'NOT CAUGHT'}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
