"""PACT: the clipping threshold of the activation is learned; weights are DoReFa's (Choi et al., 2018).

Activations are clipped to [0, a], [-a, a] or [b, a] and quantized by Eq. 1. The thresholds start at
a = 6, b = -6 and receive

    da = sum of dL/dy where x > a   (symmetric: minus that where x < -a)
    db = sum of dL/dy where x < b

with no gradient from inside the range and no gradient scale. Symmetric and unsigned scales are
s = a/Nmax, so that a sits on the grid (App. B.2.2); the a/7.5 of the paper's code puts every clipped
value on a rounding tie. With power-of-two scales the threshold becomes a_e = Nmax s and da is multiplied
by a_e/a.
"""

from typing import ClassVar

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._clipping import ClippedActivation
from mqbench.algorithms.dorefa import DoReFaWeight
from mqbench.scheme import QParams


class PACTActivation(ClippedActivation):
    """Learned clipping thresholds ``alpha`` and, if asymmetric, ``beta``."""

    initial: ClassVar[float] = 6.0
    learned: ClassVar[bool] = True

    def clip_range(self) -> tuple[Tensor, Tensor]:  # noqa: D102
        lo, hi = super().clip_range()
        if not (self.scheme.symmetric and self.scheme.power_of_two):
            return lo, hi
        reach = self.scheme.quant_max * self._symmetric_scale(hi.detach())
        slope = reach / hi.detach().clamp_min(F.SCALE_FLOOR)
        hi = reach + (hi - hi.detach()) * slope
        return (-hi if self.scheme.signed else lo), hi

    def clip_qparams(self, lo: Tensor, hi: Tensor) -> QParams:  # noqa: D102
        if not self.scheme.symmetric:
            return super().clip_qparams(lo, hi)
        return QParams(self._symmetric_scale(hi), torch.zeros_like(hi, dtype=torch.int32))

    def _symmetric_scale(self, hi: Tensor) -> Tensor:
        return F.deployed_scale(hi / self.scheme.quant_max, self.scheme)


ALGORITHM = Algorithm(
    weight=DoReFaWeight, activation=PACTActivation, plain_at_first_last=frozenset({"activation"})
)
