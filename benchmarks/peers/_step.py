"""A training step of a peer's quantized network over that of the float network, in turn; run by one peer's file."""

import argparse
import ctypes
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

CASES = ("resnet20", "resnet18", "mobilenetv2")


def network(case: str) -> tuple[nn.Module, torch.Tensor]:
    """The float network and batch of `benchmarks/training_step.py`."""
    import timm

    torch.manual_seed(0)
    if case == "resnet20":
        return ResNet20(), torch.randn(128, 3, 32, 32)
    name = {"resnet18": "resnet18", "mobilenetv2": "mobilenetv2_100"}[case]
    return timm.create_model(name, num_classes=10), torch.randn(16, 3, 112, 112)


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


class ResNet20(nn.Module):
    """ResNet-20 for 32 x 32 images, plain enough for every tracer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        blocks, inputs = [], 16
        for width in (16, 32, 64):
            for index in range(3):
                blocks.append(_Block(inputs, width, 2 if width > 16 and index == 0 else 1))
                inputs = width
        self.blocks, self.pool, self.fc = nn.Sequential(*blocks), nn.AdaptiveAvgPool2d(1), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.blocks(self.relu(self.bn(self.conv(x)))))
        return self.fc(torch.flatten(x, 1))


def keep_freed_memory() -> None:
    """As `mqbench run` does, for either side."""
    libc = ctypes.CDLL(None)
    if sys.platform.startswith("linux") and hasattr(libc, "mallopt"):
        libc.mallopt(-1, 2**31 - 1)
        libc.mallopt(-3, 2**25)


def step_of(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Forward, loss, backward, SGD with momentum."""
    labels, loss_of = torch.randint(0, 10, (len(x),)), nn.CrossEntropyLoss()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(model(x), labels).backward()
        optimizer.step()

    return step


def main(prepare: Callable[[nn.Module, torch.Tensor], nn.Module]) -> None:
    """Print one JSON line a case: the ratio of processor times, its range over the rounds, both times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    for case in options.cases.split(","):
        try:
            model, x = network(case)
            start = time.perf_counter()
            quantized = prepare(network(case)[0], x)
            seconds = time.perf_counter() - start
            if not quantized.training:
                quantized.train()
            steps = step_of(model.train(), x), step_of(quantized, x)
            for step in steps * 2:
                step()
            taken: list[list[float]] = []
            for _ in range(options.rounds):
                row = []
                for step in steps:
                    begin = time.thread_time()
                    step()
                    row.append(time.thread_time() - begin)
                taken.append(row)
            ratios = sorted(b / a for a, b in taken)
            result = {
                "ratio": statistics.median(ratios),
                "low": ratios[0],
                "high": ratios[-1],
                "milliseconds": 1e3 * statistics.median(b for _, b in taken),
                "prepare_seconds": seconds,
            }
        except Exception as error:  # a peer that refuses a network is a row of the table
            result = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"}
        print("RESULT " + json.dumps({"peer": Path(sys.argv[0]).stem, "case": case, **result}), flush=True)
