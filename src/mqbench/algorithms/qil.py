r"""QIL: the interval that is quantized is learned; what lies below it is pruned (Jung et al., CVPR 2019).

With centre C and distance D, A = 1/(2D) and B = -C/(2D) + 1/2 (paper appendix F, Eq. 16, 17),

    u = A|x| + B,   v = clip(u, 0, 1)^gamma sign(x),   y = rint(q v)/q,   q = Nmax

so that [C - D, C + D] becomes [0, 1]. Unsigned: without the sign, and negative values count as 0. The
output is in units of the interval, not of x: integers with scale 1/q, but the map before them is no Eq. 1,
which is why no library runs it. gamma = 1 and not learned (with it the paper's runs did not converge).

Where 0 < u < 1, with h = gamma u^(gamma-1) and g = 1/sqrt(M q) (the paper's choice; the original has 0.01):

    dx = dy h A
    dC = -g sum of dy sign(x) h/(2D)
    dD = -g sum of dy sign(x) h (|x| - C)/(2D^2)

and 0 elsewhere. C = D = max|x|/2 at the start; both are projected into (0, max|x|/2] before each training
step: of the weight as it is then, of activations as calibration saw them (a batch's own maximum would set
parameters apart between processes). Eq. 16 takes the power before the clip, which has no real value for
u < 0. Per channel, every channel is stretched to [-1, 1], so that their relative size is lost.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._ranges import by_channel, symmetric_reach
from mqbench.algorithms._require import require_academic
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.loop import takes
from mqbench.fused.shapes import check_channels
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize, Role
from mqbench.scheme import QParams, QuantScheme


class _Interval(Function):
    """x -> v; the gradients of centre and distance carry LSQ's gradient scale."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        center: Tensor,
        distance: Tensor,
        gamma: Tensor,
        scheme: QuantScheme,
        axis: int | None,
        batches: int,
    ) -> Tensor:
        ctx.batches = batches
        # new tensors: the parameters are projected in place, maybe before this backward runs
        c, d = F.broadcast(center, x, axis).clone(), F.broadcast(distance, x, axis).clamp_min(F.SCALE_FLOOR)
        magnitude = x.abs() if scheme.signed else x.clamp_min(0)
        u = magnitude.sub_(c).div_(2 * d).add_(0.5)
        ctx.save_for_backward(x, u, d, gamma)
        ctx.scheme, ctx.shape = scheme, center.shape
        v = u.clamp(0, 1).pow_(gamma)
        return v.mul_(x.sign()) if scheme.signed else v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, u, d, gamma = ctx.saved_tensors
        inside = (u > 0) & (u < 1)
        if not ctx.scheme.signed:
            inside &= x >= 0
        sign = x.sign() if ctx.scheme.signed else 1
        u = u.where(inside, 0.5)
        dx = gradient * inside * (gamma * u.pow(gamma - 1) / (2 * d))
        signed = dx * sign
        gradient_scale = 1 / math.sqrt(max(x.numel() // d.numel(), 1) * ctx.batches * ctx.scheme.quant_max)
        dc = F.reduce_like(signed, d).reshape(ctx.shape) * -gradient_scale
        dd = F.reduce_like(signed * (2 * u - 1), d).reshape(ctx.shape) * -gradient_scale
        dg = None
        if ctx.needs_input_grad[3]:
            dg = (gradient * sign * u.pow(gamma) * u.log() * inside).sum()
        return dx, dc, dd, dg, None, None, None


def _image(x: Tensor, center: Tensor, distance: Tensor, signed: bool) -> Tensor:
    """u = A|x| + B."""
    magnitude = torch.abs(x) if signed else torch.clamp(x, 0.0, math.inf)
    return (magnitude - center) / (2 * distance) + 0.5


def _linear(signed: bool) -> Elementwise:
    """The whole quantizer for gamma = 1, as one pass; its numbers are the grid and LSQ's gradient scale."""

    def forward(
        x: Tensor, center: Tensor, distance: Tensor, scale: Tensor, low: float, high: float, g: float
    ) -> Tensor:
        v = torch.clamp(_image(x, center, distance, signed), 0.0, 1.0)
        return F.uniform(v * torch.sign(x) if signed else v, scale, None, low, high)

    def backward(
        gradient: Tensor,
        x: Tensor,
        center: Tensor,
        distance: Tensor,
        scale: Tensor,
        low: float,
        high: float,
        g: float,
    ) -> tuple[Tensor | None, ...]:
        u = _image(x, center, distance, signed)
        inside = (u > 0) & (u < 1)
        if not signed:
            inside = inside & (x >= 0)
        dx = torch.where(inside, gradient / (2 * distance), 0.0)
        dc = (dx * torch.sign(x) if signed else dx) * -g
        return dx, dc, dc * (2 * u - 1)

    return Elementwise(forward, backward, parameters=3, scalars=3, gradients=2)


LINEAR = {signed: _linear(signed) for signed in (True, False)}


class _Kept(Function):
    """A copy with a floor that gradients pass: the parameter is projected in place, maybe before its backward."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, floor: float) -> Tensor:
        return parameter.clamp_min(floor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, None


class QIL(FakeQuantize):
    """Learned interval ``center`` -/+ ``distance``; ``gamma`` can be set, and learned if asked to."""

    reach: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = self.parameter_shape()
        self.center = nn.Parameter(torch.full(shape, 0.5))
        self.distance = nn.Parameter(torch.full(shape, 0.5))
        self.gamma = nn.Parameter(torch.tensor(1.0), requires_grad=False)
        self.register_buffer("reach", torch.ones(shape))

    @classmethod
    def check_scheme(cls, role: Role, scheme: QuantScheme) -> None:  # noqa: D102
        require_academic("qil", role, scheme, scale="Its scale is 1/Nmax by construction")

    def transform(self, x: Tensor) -> Tensor:  # noqa: D102
        parameters = self.center, self.distance, self.gamma
        v: Tensor = _Interval.apply(x, *parameters, self.scheme, self.channel_axis, self.joint_batches)
        return v

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        if self.training:
            self.project(x)
        scale, axis, grid = self.qparams().scale, self.channel_axis, self.integer_range()
        if not takes(x.tensor) or self.gamma.requires_grad or float(self.gamma) != 1:
            return F.fake_quantize(self.transform(x.whole()), scale, None, *grid, axis=axis)
        elements = max(x.numel() // self.center.numel(), 1) * self.joint_batches
        gradient_scale = 1 / math.sqrt(elements * self.scheme.quant_max)
        interval = _Kept.apply(self.center, -math.inf), _Kept.apply(self.distance, F.SCALE_FLOOR)
        parameters = tuple(p.to(x.dtype) for p in (*interval, scale))
        return F.apply(LINEAR[self.scheme.signed], x, parameters, (*grid, gradient_scale), axis=axis)

    @torch.no_grad()
    def project(self, x: F.Incoming) -> None:
        """Bring centre and distance into (0, max|x|/2]."""
        bound = (self.reach / 2).clamp_min(F.SCALE_FLOOR)
        for parameter in (self.center, self.distance):
            parameter.copy_(torch.minimum(parameter.clamp_min(F.SCALE_FLOOR), bound))

    def qparams(self) -> QParams:  # noqa: D102
        scale = torch.ones_like(self.center.detach()) / self.scheme.quant_max
        return QParams(scale, torch.zeros_like(scale, dtype=torch.int32))

    def integer_range(self) -> tuple[int, int]:  # noqa: D102
        return (-self.scheme.quant_max if self.scheme.signed else 0), self.scheme.quant_max

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take one more batch: the interval is set from x itself, not from its image."""
        assert self._observation is not None
        self._observation.observer.observe(x)

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:  # noqa: D102
        reach = torch.maximum(observer.maximum, -observer.minimum)
        self.reach = reach.to(self.reach)
        if not own:
            reach = torch.minimum(symmetric_reach(qparams.scale, self.scheme), reach)
        half = (reach / 2).clamp_min(F.SCALE_FLOOR).to(self.center)
        self.center.data, self.distance.data = half, half.clone()


class QILWeight(QIL):
    """The bound follows the weight."""

    @torch.no_grad()
    def project(self, x: F.Incoming) -> None:  # noqa: D102
        w = x.whole().abs()
        if self.channel_axis is not None:
            check_channels(self.reach.numel(), w, self.channel_axis)
        self.reach.copy_(by_channel(w, self.channel_axis).amax(-1))
        super().project(x)


ALGORITHM = Algorithm(
    weight=QILWeight,
    activation=QIL,
    deployable=False,
    plain_at_first_last=frozenset({"weight", "activation"}),
)
