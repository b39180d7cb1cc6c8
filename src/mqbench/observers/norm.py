r"""Norm: the scale from the mean magnitude, which is LSQ's initialisation.

s = 2 mean|x| / sqrt(Nmax). The paper's Eq. 10 reads 2 ||x||_1 / sqrt(Nmax), which would grow with the
size of the tensor; its text equates it with LSQ's initialisation, whose norm is the mean. Zero point
as LSQ: Nmin for asymmetric activations that are never negative, else 0.
"""

import math

import torch
from torch import Tensor

from mqbench.functional import deployed_scale
from mqbench.observers._base import Observer, blocks
from mqbench.scheme import QParams


class Norm(Observer):
    """The scale follows the typical value and ignores the range.

    Weights keep z = 0 when per channel. Per tensor the observer cannot tell them from activations; only
    a weight without a negative value would get z = Nmin.
    """

    _total: Tensor | None = None

    def _accumulate(self, rows: Tensor) -> None:
        if self._total is None:
            self._total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for channel, piece in blocks(rows):
            self._total[channel] += piece.abs().sum(dim=1, dtype=torch.float64)

    def _choose(self) -> QParams:
        assert self._total is not None
        scheme = self.scheme
        scale = 2 * self._total / self.count / math.sqrt(scheme.quant_max)
        zero_point = torch.zeros_like(scale, dtype=torch.int32)
        if not scheme.symmetric and self.channel_axis is None:
            zero_point[self._range()[0] >= 0] = scheme.quant_min
        return QParams(deployed_scale(scale, scheme), zero_point)


OBSERVER = Norm
