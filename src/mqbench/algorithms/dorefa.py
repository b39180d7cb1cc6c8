"""DoReFa: weights through a normalised tanh, activations clipped to [0, 1] or [-1, 1] (Zhou et al., 2016).

Weights: t = tanh(w), w~ = t / (max|t| + 1e-5) with the maximum over the whole tensor even per channel
(which keeps the relative size of the channels), then Eq. 1 with scale and zero point from the minimum
and maximum of w~. The output stays in the units of w~. With m = max|t| + 1e-5, k = argmax|t| and G the
straight-through gradient, dt = G/m, dt_k -= sign(t_k) sum(G t)/m^2, dw = dt (1 - t^2): what autograd gives.

The paper's 2/(Nmax - Nmin) is the symmetric scale at max|w~| = 1. The 1e-5 bounds the exponential growth
that a scale-free quantizer has under folding strategy 4 (SPEC section 4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._clipping import ClippedActivation
from mqbench.algorithms._ranges import WeightRange, row_ranges
from mqbench.fused.definition import Before
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.loop import takes
from mqbench.fused.near import middle_tanh, near_tanh

EPSILON = 1e-5


def _divided(tanh: Callable[[Tensor], Tensor]) -> Elementwise:
    """tanh(x)/m and its gradients."""

    def forward(x: Tensor, m: Tensor) -> Tensor:
        return tanh(x) / m

    def backward(gradient: Tensor, x: Tensor, m: Tensor) -> tuple[Tensor | None, ...]:
        t, inverse = tanh(x), 1.0 / m
        dt = gradient * inverse
        return dt * (1 - t * t), -(dt * t) * inverse

    return Elementwise(forward, backward, parameters=1, scalars=0, gradients=1)


DIVIDED, DIVIDED_MIDDLE, DIVIDED_NEAR = (_divided(tanh) for tanh in (torch.tanh, middle_tanh, near_tanh))


def _shortest(largest: float) -> Elementwise:
    """The form of fewest operations that is exact up to there."""
    return DIVIDED_NEAR if largest <= 0.7 else DIVIDED_MIDDLE if largest <= 2.0 else DIVIDED


class _NormalisedTanh(Function):
    """w -> w~ by passes that read the weight once; the tanh is monotone, so max|t| is that of max|w|."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        lo, hi = row_ranges(x.reshape(1, -1))
        largest = torch.maximum(hi, -lo)
        definition = _shortest(float(largest))
        top = definition.forward(largest, (torch.ones((), dtype=x.dtype),), ())[0]
        m = top + EPSILON
        ctx.save_for_backward(x, top, m)
        ctx.ends = [end for end in {float(lo), float(hi)} if abs(end) == float(largest)]
        ctx.definition = definition
        return definition.forward(x, (m,), ())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, top, m = ctx.saved_tensors
        dx, _, (dm,) = ctx.definition.backward(gradient, x, (m,), ())
        assert dm is not None
        places = [(x == end).nonzero(as_tuple=True) for end in ctx.ends]
        number = sum(len(place[0]) for place in places)
        for place in places:
            dx[place] += x[place].sign() * (dm * (1 - top * top) / number)
        return (dx,)


def _quantized(tanh: Callable[[Tensor], Tensor]) -> Elementwise:
    """Eq. 1 of tanh(x)/m, and its straight-through gradients."""

    def forward(
        x: Tensor, m: Tensor, scale: Tensor, zero_point: Tensor | None, least: float, most: float
    ) -> Tensor:
        return F.uniform(tanh(x) / m, scale, zero_point, least, most)

    def backward(
        gradient: Tensor,
        x: Tensor,
        m: Tensor,
        scale: Tensor,
        zero_point: Tensor | None,
        least: float,
        most: float,
    ) -> tuple[Tensor | None, ...]:
        t, inverse = tanh(x), 1.0 / m
        level = torch.round(t / m / scale)
        if zero_point is not None:
            level = level + zero_point
        dt = torch.where((level >= least) & (level <= most), gradient, 0.0) * inverse
        return dt * (1 - t * t), -(dt * t) * inverse

    return Elementwise(forward, backward, parameters=3, scalars=2, gradients=1)


QUANTIZED = {
    DIVIDED: _quantized(torch.tanh),
    DIVIDED_MIDDLE: _quantized(middle_tanh),
    DIVIDED_NEAR: _quantized(near_tanh),
}


@dataclass(frozen=True)
class _Extent:
    """How far a weight reaches, times its gain, and what follows from that.

    Attributes:
        definition: of tanh(x)/m, in a form that is exact enough.
        ends: smallest and largest w~ of each channel along axis 0.
        largest: of |w|; top: its tanh; m: that and epsilon.
        channels: where the largest stands.
    """

    definition: Elementwise
    ends: tuple[Tensor, Tensor]
    largest: Tensor
    top: Tensor
    m: Tensor
    channels: list[int]

    @classmethod
    def of(cls, x: Tensor, gain: Tensor | None) -> Self:
        lo, hi = row_ranges(x.detach().reshape(x.shape[0], -1))
        if gain is not None:
            lo, hi = torch.minimum(lo * gain, hi * gain), torch.maximum(lo * gain, hi * gain)
        reach = torch.maximum(hi, -lo)
        largest = reach.max()
        definition = _shortest(float(largest))
        one = torch.ones((), dtype=x.dtype)
        top = definition.forward(largest, (one,), ())
        m = top + EPSILON
        ends = definition.forward(lo, (m,), ()), definition.forward(hi, (m,), ())
        channels: list[int] = (reach == largest).nonzero().flatten().tolist()
        return cls(definition, ends, largest, top, m, channels)


class _QuantizedTanh(Function):
    """Everything in one pass over the weight; m depends on the largest weight alone."""

    @staticmethod
    def forward(
        ctx: Any,
        extent: _Extent,
        grid: tuple[int, int],
        x: Tensor,
        gain: Tensor | None,
        scale: Tensor,
        zero_point: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, gain, scale, zero_point)
        ctx.how = extent, grid
        definition = QUANTIZED[extent.definition]
        return definition.forward(x, (extent.m, scale, zero_point), grid, axis=0, before=Before(gain=gain))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, *parameters = ctx.saved_tensors
        extent, grid = ctx.how
        dx, ahead, (dm,) = QUANTIZED[extent.definition].backward(
            gradient, x, (extent.m, *parameters), grid, axis=0, before=Before(gain=gain)
        )
        d_gain = None if gain is None else ahead[0]
        found = []
        for channel in extent.channels:
            row = x[channel] if gain is None else x[channel] * gain[channel]
            found.append((channel, row, row.abs() == extent.largest))
        assert dm is not None
        each = dm * (1 - extent.top.square()) / sum(int(where.sum()) for _, _, where in found)
        for channel, row, where in found:
            more = torch.where(where, row.sign() * each, 0.0)
            if gain is not None and d_gain is not None:
                d_gain[channel] += (more * x[channel]).sum()
                more = more * gain[channel]
            dx[channel] += more
        return None, None, dx, d_gain, None, None


class DoReFaWeight(WeightRange):
    """Eq. 1 of the normalised tanh; integers and scale describe w~, no tanh at run time."""

    one_pass: ClassVar[bool] = True
    """A subclass that transforms the weight in another way has to say that it does."""

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        w = x.tensor
        fits = self.one_pass and takes(w) and w.dim() > 0 and self.channel_axis in (None, 0)
        if not fits or not w.numel() or x.clip is not None or x.norm is not None:
            return super().fake_quantize(x.whole())
        extent = _Extent.of(w, None if x.gain is None else x.gain.detach())
        lo, hi = extent.ends
        self.set_range(*((lo.min(), hi.max()) if self.channel_axis is None else (lo, hi)))
        qparams = self.qparams()
        zero_point = None if self.scheme.symmetric else qparams.zero_point.to(w.dtype)
        grid, scale = self.integer_range(), qparams.scale.to(w.dtype)
        y: Tensor = _QuantizedTanh.apply(extent, grid, w, x.gain, scale, zero_point)
        return y

    def transform(self, x: Tensor) -> Tensor:  # noqa: D102
        if takes(x) and x.dim():
            w: Tensor = _NormalisedTanh.apply(x)
            return w
        t = torch.tanh(x)
        return t / (t.abs().max() + EPSILON)


class DoReFaActivation(ClippedActivation):
    """Fixed clipping at 1."""

    initial: ClassVar[float] = 1.0
    learned: ClassVar[bool] = False
    uses_observer: ClassVar[bool] = False


ALGORITHM = Algorithm(
    weight=DoReFaWeight, activation=DoReFaActivation, plain_at_first_last=frozenset({"activation"})
)
