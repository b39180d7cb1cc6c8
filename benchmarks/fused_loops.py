"""Each fused quantizer loop beside ReLU on the same tensor, and beside its own plain torch form.

ReLU reads and writes every element once, which is the least that a forward pass can do (8 bytes an element);
a backward pass reads two tensors and writes one (12 bytes). Printed are the medians of interleaved rounds of
processor time, on one thread.

    python benchmarks/fused_loops.py --rounds 31
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from mqbench.algorithms import _clipping, apot, dorefa, dsq, lsq, qil
from mqbench.functional import STRAIGHT_THROUGH
from mqbench.fused import elementwise
from mqbench.fused.definition import Affine, Before
from mqbench.fused.elementwise import Elementwise

GRID = (0, 15)


def jobs(x: torch.Tensor, gradient: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    scale = torch.tensor(0.2)
    affine = Affine(*(torch.rand(x.shape[1]) + 0.5 for _ in range(3)))
    clipped = (torch.tensor(0.0), torch.tensor(3.0), scale, None)
    gain = Before(gain=torch.rand(x.shape[0]) + 0.5)
    definitions: dict[str, tuple[Elementwise, tuple[torch.Tensor | None, ...], Before]] = {
        "straight through": (STRAIGHT_THROUGH, (scale, None), elementwise.NOTHING),
        "lsq": (lsq.AFTER_ROUNDING, (scale, None), elementwise.NOTHING),
        "lsq, zero point": (lsq.AFTER_ROUNDING, (scale, torch.tensor(1.0)), elementwise.NOTHING),
        "lsq behind batch norm": (lsq.AFTER_ROUNDING, (scale, None), Before(affine)),
        "lsq of a folded weight": (lsq.AFTER_ROUNDING, (scale, None), gain),
        "dorefa, tanh of the weight": (dorefa.DIVIDED_NEAR, (scale,), elementwise.NOTHING),
        "qil": (qil.LINEAR[True], (scale, scale, scale), elementwise.NOTHING),
        "apot": (apot.PROJECTIONS[3], (scale,), elementwise.NOTHING),
        "pact": (_clipping.CLIPPED, clipped, elementwise.NOTHING),
        "dsq": (dsq.SOFT_STAIRCASE, (scale, None, scale), elementwise.NOTHING),
    }
    found: dict[str, Callable[[], object]] = {"relu": lambda: torch.relu(x)}
    for name, (definition, parameters, before) in definitions.items():
        numbers = {
            "qil": (*GRID, 0.1),
            "apot": (-1.0, *apot.BETWEEN[3, x.dtype]),
            "dorefa, tanh of the weight": (),
        }.get(name, GRID)
        found[f"{name}, forward"] = lambda d=definition, p=parameters, b=before, n=numbers: d.forward(  # type: ignore[misc]
            x, p, n, before=b
        )
        found[f"{name}, backward"] = lambda d=definition, p=parameters, b=before, n=numbers: d.backward(  # type: ignore[misc]
            gradient, x, p, n, before=b
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--plain", action="store_true", help="the plain torch forms as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, gradient = torch.randn(128, 16, 32, 32), torch.randn(128, 16, 32, 32)
    work = jobs(x, gradient)
    fused = elementwise.takes
    taken: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for form in ("", " (plain)") if options.plain else ("",):
            elementwise.takes = (lambda _: False) if form else fused
            for name, job in work.items():
                start = time.thread_time()
                job()
                taken.setdefault(name + form, []).append(time.thread_time() - start)
    base = statistics.median(taken["relu"])
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        size = (8 if "forward" in name or "relu" in name else 12) * x.numel()
        print(
            f"{name:38} {middle / base:5.2f} x relu  {1e3 * middle:6.2f} ms  {size / middle / 1e9:5.1f} GB/s"
        )


if __name__ == "__main__":
    main()
