"""Activation functions that cut a tensor at two ends, which a quantizer can compute in its own pass."""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor, nn

Activation = tuple[str | float, ...]
"""Name of an aten operation and its numbers: ``("relu",)``, ``("hardtanh", 0.0, 6.0)``."""


class Clip(NamedTuple):
    """clip(x, lower, upper), whose gradient passes strictly between the two."""

    lower: float
    upper: float = inf

    def __call__(self, x: Tensor) -> Tensor:
        """The clipped tensor, differentiable."""
        if self == (0.0, inf):
            return torch.relu(x)
        return nn.functional.hardtanh(x, self.lower, self.upper)


CLIPS: dict[str, Callable[..., Clip]] = {
    "relu": lambda: Clip(0.0),
    "relu6": lambda: Clip(0.0, 6.0),
    "hardtanh": lambda lower=-1.0, upper=1.0: Clip(lower, upper),
}


def clip_of(activation: Activation) -> Clip:
    """The clip that an activation function is."""
    name, *numbers = activation
    return CLIPS[str(name)](*numbers)
