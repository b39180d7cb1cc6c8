"""Exact sums of a layer's integer products by float kernels, each chosen by a proof on the layer's own weights.

In float32 a sum of integers is exact, in whatever order, while every partial sum stays below 2^24. The
partial sums lie between the sums of the negative and of the positive products, and these are bounded by the
weights and the input's range. Where the bound is too large the input is split into 16 hi + lo, and both
parts are proved on their own; where that fails too, or the float kernels may round by themselves, float64 is
used, which is exact up to 2^53.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mqbench.deploy.program import Grid, Layer
from mqbench.deploy.simulation import apply_layer

EXACT = 2**24
SPLIT = 16


@dataclass(frozen=True)
class Range:
    """Smallest and largest centred integer of an input."""

    low: int
    high: int

    @classmethod
    def of(cls, grid: Grid) -> "Range":
        """Of a grid."""
        return cls(grid.quant_min - grid.zero_point, grid.quant_max - grid.zero_point)


class Accumulator:
    """Computes sum w x of one layer exactly.

    Args:
        layer: its weights.
        grid: of its input.

    Attributes:
        bound: no partial sum is larger in size, float64 ``[channels]``.
        method: ``float32``, ``split`` or ``float64``.
    """

    def __init__(self, layer: Layer, grid: Grid) -> None:
        self.layer, self.zero_point = layer, float(grid.zero_point)
        self.weight = layer.weight.centred().float()
        reach = Range.of(grid)
        self.bound = _bound(self.weight, reach)
        self.method: Literal["float32", "split", "float64"] = "float64"
        parts = Range(reach.low // SPLIT, reach.high // SPLIT), Range(0, SPLIT - 1)
        if float(self.bound.max()) < EXACT:
            self.method = "float32"
        elif all(float(_bound(self.weight, part).max()) < EXACT for part in parts):
            self.method = "split"

    def __call__(self, x: Tensor) -> Tensor:
        """Exact sums of the integers ``x`` (any dtype): float32 where they fit, float64 otherwise."""
        centred = x - self.zero_point if self.zero_point else x
        if self.method == "float64" or not _float32_is_exact(x):
            weight = self.weight.to(x.device).double()
            return apply_layer(self.layer, centred.double(), weight, None)
        if self.method == "float32":
            return apply_layer(self.layer, centred, self.weight, None)
        high = torch.floor(centred / SPLIT)
        low = apply_layer(self.layer, torch.sub(centred, high, alpha=SPLIT), self.weight, None)
        return apply_layer(self.layer, high, self.weight, None).double().mul_(SPLIT).add_(low)


def _bound(weight: Tensor, reach: Range) -> Tensor:
    """Largest size of a partial sum of each channel, float64 ``[channels]``."""
    rows = weight.double().flatten(1)
    ends = torch.stack([rows * reach.low, rows * reach.high])
    positive = ends.amax(0).clamp_min(0).sum(1)
    negative = ends.amin(0).clamp_max(0).sum(1)
    return torch.maximum(positive, -negative)


def _float32_is_exact(x: Tensor) -> bool:
    """Whether convolutions and matrix products keep all 24 bits: not if the user lets them use fewer."""
    return x.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
