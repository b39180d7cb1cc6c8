"""LSQ: the step size is learned by gradient descent (Esser et al., ICLR 2020; LSQ+ for the zero point).

Forward is Eq. 1 with s_e = max(|s|, 2^-23), rounded to a power of two if the scheme asks for it, and
z_e = rint(clip(z, Nmin, Nmax)). With u = x/s_e and T = rint(u) + z_e, the gradients are, per element,

    dy/dx = 1 inside (Nmin <= T <= Nmax), else 0
    dy/ds = rint(u) - u inside, Nmin - z_e below, Nmax - z_e above
    dy/dz = 0 inside, -s_e outside

summed over the tensor (or channel) and multiplied by g = 1/sqrt(M Nmax), M the number of elements that
share the scale; with power-of-two scales ds also by s_e/s. The zero point is learned where the scheme is
asymmetric (Bhalgat et al., 2020) and gets no weight decay. Initial s is 2 mean|x| / sqrt(Nmax): the
paper's L1 norm without the mean would grow with the tensor. The original's mask before rounding is
`lsq_premask`.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QParams, QuantScheme


class _LearnedStep(Function):
    """Eq. 1 with LSQ's gradients for x, the raw step size and the raw zero point (None if fixed at 0)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        step_size: Tensor,
        offset: Tensor | None,
        scheme: QuantScheme,
        axis: int | None,
        mask_after_rounding: bool,
    ) -> Tensor:
        deployed = F.deployed_scale(step_size, scheme)
        scale = F.broadcast(deployed, x, axis)
        zero_point = None if offset is None else F.broadcast(_integer(offset, scheme), x, axis)
        level = x / scale
        premask = None if mask_after_rounding else _strictly_inside(level, zero_point, scheme)
        level.round_()
        if zero_point is not None:
            level.add_(zero_point)
        kept = level.clamp(scheme.quant_min, scheme.quant_max)
        inside = level.eq_(kept) if premask is None else premask
        if zero_point is not None:
            kept.sub_(zero_point)
        y = kept.mul_(scale)
        ctx.save_for_backward(x, y, inside, step_size, deployed)
        ctx.scheme, ctx.axis = scheme, axis
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, inside, step_size, deployed = ctx.saved_tensors
        dx = gradient * inside
        ds = dz = None
        elements = x.numel() // step_size.numel()
        gradient_scale = 1 / math.sqrt(max(elements, 1) * ctx.scheme.quant_max)
        like = F.broadcast(step_size, x, ctx.axis)
        if ctx.needs_input_grad[1]:
            # (rint(u) - u) s inside and (Nmin - z) s or (Nmax - z) s outside, both from y
            error = torch.addcmul(y, x, inside, value=-1).mul_(gradient)
            ds = F.reduce_like(error, like).view_as(step_size) / deployed * gradient_scale
            if ctx.scheme.power_of_two:  # straight through the rounding of log2 s
                size = torch.where(step_size < 0, -1.0, 1.0) * step_size.abs().clamp_min(F.SCALE_FLOOR)
                ds = ds * (deployed / size)
            elif (step_size < 0).any():
                ds = ds * torch.sign(step_size)
        if ctx.needs_input_grad[2]:
            dz = F.reduce_like(dx - gradient, like).view_as(step_size) * deployed * gradient_scale
        return dx, ds, dz, None, None, None


def _strictly_inside(u: Tensor, zero_point: Tensor | None, scheme: QuantScheme) -> Tensor:
    if zero_point is not None:
        u = u + zero_point
    return ((u > scheme.quant_min) & (u < scheme.quant_max)).to(u.dtype)


def _integer(offset: Tensor, scheme: QuantScheme) -> Tensor:
    return torch.round(offset.clamp(scheme.quant_min, scheme.quant_max))


class LSQ(FakeQuantize):
    """Learned step size; parameters ``step_size`` and, if asymmetric, ``offset`` (the zero point)."""

    observer: ClassVar[str] = "norm"
    no_decay: ClassVar[tuple[str, ...]] = ("offset",)
    mask_after_rounding: ClassVar[bool] = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = self.parameter_shape()
        self.step_size = nn.Parameter(torch.ones(shape))
        self.offset = None if self.scheme.symmetric else nn.Parameter(torch.zeros(shape))

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        y: Tensor = _LearnedStep.apply(
            x, self.step_size, self.offset, self.scheme, self.channel_axis, self.mask_after_rounding
        )
        return y

    def qparams(self) -> QParams:  # noqa: D102
        scale = F.deployed_scale(self.step_size.detach(), self.scheme)
        if self.offset is None:
            return QParams(scale, torch.zeros_like(scale, dtype=torch.int32))
        return QParams(scale, _integer(self.offset.detach(), self.scheme).to(torch.int32))

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:  # noqa: D102
        self.step_size.data = qparams.scale.to(self.step_size)
        if self.offset is not None:
            self.offset.data = qparams.zero_point.to(self.offset)
            if own and self.role == "weight" and self.observer == "norm":
                # the norm's Nmin is for activations that are never negative
                self.offset.data.zero_()


ALGORITHM = Algorithm(weight=LSQ, activation=LSQ)
