"""Cost of calibrating ResNet-18 with each observer, as a share of the float forward pass.

Captures every convolution's input (the tensors that an activation quantizer sees), then times the
forward pass and each observer's observe and qparams over all of them, in interleaved rounds on one thread,
and prints the medians. Random weights: only the shapes and the ReLU zeros matter here.

    python benchmarks/calibration.py --images 64 --batch 16 --rounds 5
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import mqbench.observers
from mqbench.scheme import QuantScheme


def captured(model: nn.Module, batches: list[Tensor]) -> dict[str, list[Tensor]]:
    """The distinct tensors that enter convolutions, by the first that reads them."""
    inputs: dict[str, list[Tensor]] = {}
    seen: set[int] = set()

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if id(args[0]) not in seen:
                seen.add(id(args[0]))
                alive.append(args[0])
                inputs.setdefault(name, []).append(args[0].clone())

        return hook

    modules = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_pre_hook(keep(name)) for name, module in modules]
    for batch in batches:
        alive: list[Tensor] = []  # ids are unique only while the tensors live
        seen.clear()
        model(batch)
    for handle in handles:
        handle.remove()
    return inputs


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def observe(name: str, inputs: dict[str, list[Tensor]]) -> None:
    """Calibrate every tensor with one observer."""
    for tensors in inputs.values():
        observer = mqbench.observers[name](QuantScheme(bits=8, symmetric=False))
        for x in tensors:
            observer.observe(x)
        observer.qparams()


def observe_weights(name: str, weights: list[Tensor]) -> None:
    """Calibrate every weight, per channel."""
    for weight in weights:
        observer = mqbench.observers[name](QuantScheme(bits=8, per_channel=True), channel_axis=0)
        observer.observe(weight)
        observer.qparams()


@torch.no_grad()
def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = timm.create_model("resnet18").eval()
    images = torch.randn(options.images, 3, 224, 224)
    batches = [images[start : start + options.batch] for start in range(0, len(images), options.batch)]
    inputs = captured(model, batches)
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    elements = sum(x.numel() for tensors in inputs.values() for x in tensors)
    print(f"{len(inputs)} tensors, {elements / 1e6:.0f} M elements, {options.threads} thread(s)")

    jobs: dict[str, Callable[[], object]] = {"forward": lambda: [model(batch) for batch in batches]}
    for name in mqbench.observers:
        jobs[name] = lambda name=name: observe(name, inputs)  # type: ignore[misc]
        jobs[f"{name}, all weights"] = lambda name=name: observe_weights(name, weights)  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(options.rounds):
        for name, job in jobs.items():
            times[name].append(seconds(job))
    forward = statistics.median(times["forward"])
    for name, taken in times.items():
        middle = statistics.median(taken)
        print(f"{name:24s} {middle:7.3f} s  {middle / forward:6.3f} x forward")


if __name__ == "__main__":
    main()
