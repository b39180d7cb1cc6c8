"""Cost of calibrating ResNet-18, weights and activations, over one float forward pass of the same images.

Every measurement of `mqbench.calibrate` follows one of the float network; their ratio less 1 is what the
observers cost, and the median over the rounds is printed. Random weights, whose batch-norm statistics are made to
fit: only shapes, ReLU zeros and bell-shaped values matter here. The clock is that of the process, which other
processes lengthen less; it adds up threads.

    python benchmarks/calibration.py --backends acl,fbgemm,snpe --bits 4,8 --rounds 5
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import mqbench
from mqbench.preparation import quantizers


def network() -> nn.Module:
    """ResNet-18 with the batch-norm statistics of noise."""
    model: nn.Module = timm.create_model("resnet18").train()
    for _ in range(3):
        model(torch.randn(8, 3, 224, 224))
    return model.eval()


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time of one call."""
    start = clock()
    work()
    return clock() - start


def observed(q: nn.Module, batch: Tensor) -> int:
    """Values that the activation quantizers see in one batch."""
    seen: list[int] = []
    handles = [
        fq.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
        for _, fq in quantizers(q)
        if fq.role == "activation"
    ]
    with mqbench.quantization_off(q):
        q(batch)
    for handle in handles:
        handle.remove()
    return sum(seen)


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", default="acl,fbgemm,snpe")
    parser.add_argument("--bits", default="4,8")
    parser.add_argument("--observers", default=",".join(mqbench.observers))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["process_time", "perf_counter"], default="process_time")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Time and print."""
    chosen = options()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    clock = getattr(time, chosen.clock)
    model = network()
    batches = list(torch.randn(chosen.images, 3, 224, 224).split(chosen.batch))
    jobs: dict[tuple[str, str, str], Callable[[], object]] = {}
    for backend in chosen.backends.split(","):
        for bits in chosen.bits.split(","):
            q = mqbench.prepare(model, batches[0][:2], backend=backend, algorithm="ptq", bits=int(bits))
            values = sum(observed(q, batch) for batch in batches)
            print(
                f"{backend}, {bits} bits: {values / 1e6:.0f} M activation values, {chosen.threads} thread(s)"
            )
            for name in chosen.observers.split(","):
                jobs[backend, bits, name] = lambda q=q, name=name: mqbench.calibrate(  # type: ignore[misc]
                    q, batches, weights=name, activations=name
                )
    ratios: dict[tuple[str, str, str], list[float]] = {job: [] for job in jobs}
    forwards = []
    for _ in range(chosen.rounds):
        for job, work in jobs.items():
            forwards.append(seconds(lambda: [model(batch) for batch in batches], clock))
            ratios[job].append(seconds(work, clock) / forwards[-1] - 1)
    print(f"float forward pass: {statistics.median(forwards):.2f} s")
    for (backend, bits, name), found in ratios.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"{middle:6.3f} x forward ({low:.3f} to {high:.3f})  {backend:10s} {bits:>2s} bits  {name}")


if __name__ == "__main__":
    main()
