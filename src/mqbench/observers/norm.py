r"""Norm: the scale from the mean magnitude, which is LSQ's initialisation.

s = 2 mean|x| / sqrt(Nmax). The paper's Eq. 10 reads 2 ||x||_1 / sqrt(Nmax), which would grow with the
size of the tensor; its text equates it with LSQ's initialisation, whose norm is the mean. Zero point
as LSQ: Nmin for asymmetric activations that are never negative, else 0.
"""

import math
from typing import Self

import torch
from torch import Tensor

from mqbench.functional import deployed_scale
from mqbench.observers._base import Observer
from mqbench.observers._moments import Kind, summarise
from mqbench.observers._statistic import Piece, Statistic
from mqbench.scheme import QParams


class Magnitude(Statistic):
    """The sum of magnitudes, float64 ``[channels]``; a piece at a time is precise enough in its own type."""

    def __init__(self, rows: Tensor) -> None:
        self.total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)

    def add(self, piece: Piece) -> None:
        """Add up one piece."""
        values = piece.summable()
        magnitude = values if piece.low >= 0 else values.abs()
        self.total[piece.channels] += magnitude.sum(dim=1)

    def add_all(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Add up all values in one compiled pass, if there is one."""
        found = summarise(rows, Kind.MAGNITUDE)
        if found is None:
            return None
        self.total = found.first
        return found.lo, found.hi

    def merge(self, later: Self) -> None:
        """Add up two batches."""
        self.total += later.total


class Norm(Observer):
    """The scale follows the typical value and ignores the range.

    Weights keep z = 0 when per channel. Per tensor the observer cannot tell them from activations; only
    a weight without a negative value would get z = Nmin.
    """

    def _fresh(self, rows: Tensor) -> Magnitude:
        return Magnitude(rows)

    def _choose(self) -> QParams:
        scheme = self.scheme
        scale = 2 * self._statistic.total / self.count / math.sqrt(scheme.quant_max)
        zero_point = torch.zeros_like(scale, dtype=torch.int32)
        if not scheme.symmetric and self.channel_axis is None:
            zero_point[self._range()[0] >= 0] = scheme.quant_min
        return QParams(deployed_scale(scale, scheme), zero_point)


OBSERVER = Norm
