"""DSQ: Eq. 1 forward, a soft staircase's slope backward (Gong et al., ICCV 2019), alpha = 0.4 fixed.

With u = x/s + z, f = floor(u), S = 1/(1 - alpha) and K = ln(2/alpha - 1),

    dx = dy 1[Nmin <= u <= Nmax] (S K / 2) (1 - tanh^2(K (u - f - 1/2)))

and no gradient reaches s and z. Weights are clipped at mean -/+ 2.6 standard deviations (ddof 1),
recomputed at every step (Eq. 12, 13). Activations use the minimum and maximum of each sample, averaged
over the batch and then over batches (momentum 0.9), frozen in eval mode. The paper's symmetric scale
max(-Cmin, Cmax)/(Nmax - Nmin) would clip half of a signed range; SPEC section 1 is used.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._ranges import MovingRange, WeightRange, by_channel, std_mean

ALPHA = 0.4
DEVIATIONS = 2.6
_K = math.log(2 / ALPHA - 1)
_PEAK = _K / (2 * (1 - ALPHA))


class _SoftStaircase(Function):
    """Eq. 1 forward; backward the derivative of the tanh staircase, with ``exact_scale``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        exact_scale: Tensor,
        quant_min: int,
        quant_max: int,
    ) -> Tensor:
        ctx.save_for_backward(x, exact_scale, zero_point)
        ctx.grid = quant_min, quant_max
        level = torch.round(x / scale).add_(zero_point)
        return level.clamp_(quant_min, quant_max).sub_(zero_point).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero_point = ctx.saved_tensors
        quant_min, quant_max = ctx.grid
        u = (x.to(scale.dtype) / scale).add_(zero_point)
        outside = (u < quant_min).logical_or_(u > quant_max)
        slope = u.sub_(u.floor()).sub_(0.5).to(x.dtype).mul_(_K).tanh_()
        dx = slope.square_().neg_().add_(1).mul_(_PEAK).mul_(gradient)
        return dx.masked_fill_(outside, 0), None, None, None, None, None


class DSQWeight(WeightRange):
    """Range mean -/+ 2.6 standard deviations."""

    def weight_range(self, w: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        # u - floor(u) loses a bit with each bit of u: from 7 bits on float32 is too coarse for the slope
        values = by_channel(w.double() if self.scheme.bits > 6 else w, self.channel_axis)
        std, mean = std_mean(values)
        return mean - DEVIATIONS * std, mean + DEVIATIONS * std

    def set_range(self, lo: Tensor, hi: Tensor) -> None:  # noqa: D102
        super().set_range(lo, hi)
        self._exact = F.range_to_qparams(lo, hi, self.scheme).scale

    def straight_through(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:  # noqa: D102
        exact = F.broadcast(self._exact, x, self.channel_axis)
        y: Tensor = _SoftStaircase.apply(x, scale, zero_point, exact, *self.integer_range())
        return y


class DSQActivation(MovingRange):
    """Moving average of the per-sample minimum and maximum."""

    def batch_range(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        lo, hi = torch.aminmax(x.reshape(x.shape[0], -1) if x.dim() else x.reshape(1, 1), dim=1)
        return lo.mean(), hi.mean()

    def straight_through(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:  # noqa: D102
        y: Tensor = _SoftStaircase.apply(x, scale, zero_point, scale, *self.integer_range())
        return y


ALGORITHM = Algorithm(weight=DSQWeight, activation=DSQActivation)
