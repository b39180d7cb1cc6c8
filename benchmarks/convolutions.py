"""How near to the machine's arithmetic the convolutions of a training step are: what bounds BN folding 2 and 3.

Those two convolve twice forward and four times backward. For layers of the networks of `training_step.py` this prints
milliseconds and GFLOP/s of the output, the weight's and the input's gradient, in float32 on one thread, and the same
of a matrix product that has everything in its favour; and what one convolution of twice the outputs costs over one, for
that is how two of the same input could be computed together.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --channels-last
"""

import argparse
import time
from collections.abc import Callable

import torch

from mqbench.training._memory import keep_freed_memory

LAYERS = {  # batch, inputs, outputs, pixels, kernel
    "ResNet-20, 16 channels": (128, 16, 16, 32, 3),
    "ResNet-20, 32": (128, 32, 32, 16, 3),
    "ResNet-20, 64": (128, 64, 64, 8, 3),
    "ResNet-18, 64": (16, 64, 64, 28, 3),
    "ResNet-18, 128": (16, 128, 128, 14, 3),
    "ResNet-18, 256": (16, 256, 256, 7, 3),
    "ResNet-18, 512": (16, 512, 512, 4, 3),
    "MobileNetV2, 24 to 144": (16, 24, 144, 28, 1),
    "MobileNetV2, 144 to 24": (16, 144, 24, 28, 1),
}


def milliseconds(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The shortest of ``rounds`` calls of each, in turn."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(rounds + 1):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return best


def passes(
    x: torch.Tensor, outputs: int, kernel: int, order: torch.memory_format
) -> dict[str, Callable[[], object]]:
    """Output, weight gradient and input gradient of a convolution."""
    weight = torch.randn(outputs, x.shape[1], kernel, kernel).contiguous(memory_format=order)
    padding = kernel // 2
    gradient = torch.randn_like(torch.conv2d(x, weight, padding=padding))

    def backward(*wanted: bool) -> object:
        sizes = [1, 1], [padding, padding], [1, 1]
        return torch.ops.aten.convolution_backward(
            gradient, x, weight, None, *sizes, False, [0, 0], 1, [*wanted, False]
        )

    return {
        "output": lambda: torch.conv2d(x, weight, padding=padding),
        "weight": lambda: backward(False, True),
        "input": lambda: backward(True, False),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    parser.add_argument("--channels-last", action="store_true", help="channels as the innermost axis")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    order = torch.channels_last if options.channels_last else torch.contiguous_format
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = milliseconds({"product": lambda: a @ b}, options.rounds)["product"]
    print(f"torch {torch.__version__}; matrix product of 2048: {2 * 2048**3 / best / 1e6:.0f} GFLOP/s")
    for name, (batch, inputs, outputs, pixels, kernel) in LAYERS.items():
        x = torch.randn(batch, inputs, pixels, pixels).contiguous(memory_format=order)
        one, two = passes(x, outputs, kernel, order), passes(x, 2 * outputs, kernel, order)
        found = milliseconds({**one, **{f"two {k}": call for k, call in two.items()}}, options.rounds)
        flops = 2 * batch * pixels**2 * outputs * inputs * kernel**2
        cells = [
            f"{found[k]:6.2f} ms {flops / found[k] / 1e6:4.0f} GFLOP/s, twice {found[f'two {k}'] / found[k]:.2f}"
            for k in one
        ]
        print(f"{name:24s}", " | ".join(cells))


if __name__ == "__main__":
    main()
