"""Networks that a user may bring by mistake, by name: ``odd_networks:NAME``."""

from typing import Any

import torch
from torch import Tensor, nn

number = 3


def plain(num_classes: int, in_chans: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_chans, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, num_classes),
    )  # fmt: skip


def colour(num_classes: int) -> nn.Module:
    return plain(num_classes)


def other_classes() -> nn.Module:
    return plain(7)


def without_convolution() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def without_batch_norm(num_classes: int, in_chans: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))  # fmt: skip


def half(num_classes: int, in_chans: int) -> nn.Module:
    return plain(num_classes, in_chans).half()


def raising(num_classes: int) -> nn.Module:
    raise RuntimeError("no such luck\nand here is why")


def demanding(num_classes: int, depth: int) -> nn.Module:
    return plain(num_classes)


def text(num_classes: int) -> Any:
    return "a network"


class Dynamic(nn.Module):
    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, 4, 3), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if y.sum() > 0:
            y = -y
        z: Tensor = self.fc(y.mean((2, 3)))
        return z


def dynamic(num_classes: int, in_chans: int) -> nn.Module:
    return Dynamic(num_classes, in_chans)


class Twice(nn.Module):
    """One convolution, one batch norm and one activation function, each called at two places."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu, self.fc = nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        for _ in range(2):
            x = self.relu(self.norm(self.conv(x)))
        y: Tensor = self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))
        return y


def twice(num_classes: int, in_chans: int) -> nn.Module:
    return Twice(num_classes, in_chans)
