"""DSQ: Eq. 1 forward, a soft staircase's slope backward (Gong et al., ICCV 2019), alpha = 0.4 fixed.

With u = x/s + z, f = floor(u), S = 1/(1 - alpha) and K = ln(2/alpha - 1),

    dx = dy 1[Nmin <= u <= Nmax] (S K / 2) (1 - tanh^2(K (u - f - 1/2)))

and no gradient reaches s and z. Weights are clipped at mean -/+ 2.6 standard deviations (ddof 1),
recomputed at every step (Eq. 12, 13). Activations use the minimum and maximum of each sample, averaged
over the batch and then over batches (momentum 0.9), frozen in eval mode. The paper's symmetric scale
max(-Cmin, Cmax)/(Nmax - Nmin) would clip half of a signed range; SPEC section 1 is used.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._ranges import MovingRange, WeightRange, by_channel, row_std_mean
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.near import near_tanh
from mqbench.processes import mean_of_all

ALPHA = 0.4
DEVIATIONS = 2.6
_K = math.log(2 / ALPHA - 1)
_PEAK = _K / (2 * (1 - ALPHA))


def _forward(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    exact_scale: Tensor,
    quant_min: float,
    quant_max: float,
) -> Tensor:
    return F.uniform(x, scale, zero_point, quant_min, quant_max)


def _slope(
    gradient: Tensor,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    exact_scale: Tensor,
    quant_min: float,
    quant_max: float,
) -> tuple[Tensor | None, ...]:
    """The derivative of the tanh staircase, with ``exact_scale``, maybe of a wider type."""
    u = x.type_as(exact_scale) / exact_scale
    if zero_point is not None:
        u = u + zero_point
    soft = near_tanh((u - torch.floor(u) - 0.5).type_as(x) * _K)  # at most K/2 = 0.693
    dx = (1 - soft * soft) * _PEAK * gradient
    return (torch.where((u >= quant_min) & (u <= quant_max), dx, 0.0),)


SOFT_STAIRCASE = Elementwise(_forward, _slope, parameters=3, scalars=2, name="soft staircase")


class DSQWeight(WeightRange):
    """Range mean -/+ 2.6 standard deviations."""

    estimator: ClassVar[Elementwise] = SOFT_STAIRCASE

    def weight_range(self, w: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        # u - floor(u) loses a bit with each bit of u: from 7 bits on float32 is too coarse for the slope
        values = by_channel(w.double() if self.scheme.bits > 6 else w, self.channel_axis)
        std, mean = row_std_mean(values)
        return mean - DEVIATIONS * std, mean + DEVIATIONS * std

    def set_range(self, lo: Tensor, hi: Tensor) -> None:  # noqa: D102
        super().set_range(lo, hi)
        self._exact = F.range_to_qparams(lo, hi, self.scheme).scale

    def estimator_parameters(  # noqa: D102
        self, scale: Tensor, zero_point: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        return scale, zero_point, self._exact


class DSQActivation(MovingRange):
    """Moving average of the per-sample minimum and maximum."""

    estimator: ClassVar[Elementwise] = SOFT_STAIRCASE
    per_sample: ClassVar[bool] = True

    def joint_range(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return mean_of_all(lo), mean_of_all(hi)

    def estimator_parameters(  # noqa: D102
        self, scale: Tensor, zero_point: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        return scale, zero_point, scale.clone()  # a compiler takes no tensor twice


ALGORITHM = Algorithm(weight=DSQWeight, activation=DSQActivation)
