"""Time and memory of a quantization-aware training step over the float training step.

Every contender (float, then each algorithm x backend x folding) takes its steps in turn, round after
round, so that the noise of the machine falls on all alike. A step is forward, loss, backward and SGD
with momentum. Printed is the median over the rounds of the ratio to the float step of the same round, in
processor time of the main thread (with one thread what counts) and in wall time. The memory that a step
frees is kept for the next, as in `mqbench run` on a CPU; ``--no-keep`` leaves the C library to its habits, whose page
faults cost either side 5 to 12 %, at random.

    python benchmarks/training_step.py --cases resnet20 --algorithms lsq,pact --backends academic,tvm
    python benchmarks/training_step.py --compile            # torch.compile of the whole model, both sides
    python benchmarks/training_step.py --memory             # peak memory of a step, each in a new process
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

import mqbench
from mqbench.training._memory import keep_freed_memory

WARM_UP = 2


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is trained: the float network, or a quantized form of it."""

    case: str
    algorithm: str | None = None
    backend: str = ""
    folding: int | None = None
    bits: int = 4

    @property
    def name(self) -> str:
        """As printed."""
        if self.algorithm is None:
            return "float"
        folding = "" if self.folding is None else f" folding {self.folding}"
        return f"{self.algorithm} {self.backend}{folding}"


def network(case: str) -> tuple[nn.Module, torch.Tensor]:
    """A float network and a batch for it."""
    torch.manual_seed(0)
    if case in ("resnet20", "tiny"):  # tiny: what a step costs beside its elements
        images = torch.randn(128, 3, 32, 32) if case == "resnet20" else torch.randn(4, 3, 8, 8)
        return mqbench.architectures["resnet20"].build(10, 3), images
    import timm

    name = {"resnet18": "resnet18", "mobilenetv2": "mobilenetv2_100"}[case]
    return timm.create_model(name), torch.randn(16, 3, 112, 112)


def step_of(
    contender: Contender, *, compiled: bool = False, channels_last: bool = False
) -> Callable[[], None]:
    """One training step of a contender, ready to be called."""
    model, x = network(contender.case)
    if contender.algorithm is not None:
        prepared = mqbench.prepare(
            model, x[:2], backend=contender.backend, algorithm=contender.algorithm,
            bits=contender.bits, bn_folding=contender.folding,
        )  # fmt: skip
        mqbench.calibrate(prepared, [x])
        model = prepared
    model.train()
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = torch.compile(model, fullgraph=True) if compiled else model
    labels = torch.randint(0, 10, (len(x),))
    loss_of = nn.CrossEntropyLoss()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(run(x), labels).backward()
        optimizer.step()

    return step


def times(contenders: list[Contender], rounds: int, **how: bool) -> dict[str, list[tuple[float, float]]]:
    """(processor seconds, wall seconds) of a step of each contender in each round."""
    steps = {c.name: step_of(c, **how) for c in contenders}
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.thread_time()
            step()
            taken[name].append((time.thread_time() - cpu, time.perf_counter() - wall))
    return taken


def peak_bytes(contender: Contender, compiled: bool) -> int:
    """Peak resident memory of training steps above that before them, in a process of its own."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import training_step as t, torch; "
        "torch.set_num_threads(1); contender = t.Contender(**json.loads(sys.argv[2])); "
        "print(t.measured_here(contender, sys.argv[3] == 'True'))"
    )
    arguments = [str(Path(__file__).parent), json.dumps(asdict(contender)), str(compiled)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1])


def measured_here(contender: Contender, compiled: bool) -> int:
    """`peak_bytes` in this process (Linux only)."""
    step = step_of(contender, compiled=compiled)
    if compiled:
        step()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = _status("VmRSS")
    for _ in range(3):
        step()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default="resnet20,resnet18,mobilenetv2")
    parser.add_argument("--algorithms", default="lsq")
    parser.add_argument("--backends", default="academic,tensorrt,acl,tvm,snpe,fbgemm")
    parser.add_argument("--foldings", default="", help="empty: each backend's own")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.keep and not options.memory:
        keep_freed_memory()
    warnings.filterwarnings("ignore", category=UserWarning)
    print(
        f"torch {torch.__version__}, {options.threads} thread(s), {'compiled' if options.compile else 'eager'}"
    )
    foldings = [int(f) for f in options.foldings.split(",")] if options.foldings else [None]
    for case in options.cases.split(","):
        contenders = [Contender(case=case)]
        for algorithm in options.algorithms.split(","):
            for backend in options.backends.split(","):
                contenders += [
                    Contender(case=case, algorithm=algorithm, backend=backend, folding=f, bits=options.bits)
                    for f in foldings
                ]
        if options.memory:
            peaks = {c.name: peak_bytes(c, options.compile) for c in contenders}
            for name, peak in peaks.items():
                print(
                    f"{case:12} {name:28} {peak / peaks['float']:5.2f} x float  {peak / 1e6:7.0f} MB",
                    flush=True,
                )
            continue
        taken = times(
            contenders, options.rounds, compiled=options.compile, channels_last=options.channels_last
        )
        base = taken["float"]
        for name, rounds in taken.items():
            cpu, wall = (
                statistics.median(r[i] / b[i] for r, b in zip(rounds, base, strict=True)) for i in (0, 1)
            )
            middle = statistics.median(r[0] for r in rounds)
            print(
                f"{case:12} {name:28} {cpu:5.3f} x cpu  {wall:5.3f} x wall  {1e3 * middle:7.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
