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
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.fused.elementwise import Elementwise
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QParams, QuantScheme


def _gradients(
    gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor | None, quant_min: float, quant_max: float
) -> tuple[Tensor | None, ...]:
    """Per element: dx, ds and dz of the deployed scale and zero point."""
    return _masked(gradient, x, scale, zero_point, quant_min, quant_max, before_rounding=False)


def _gradients_masked_before(
    gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor | None, quant_min: float, quant_max: float
) -> tuple[Tensor | None, ...]:
    """The same with the mask of `lsq_premask`."""
    return _masked(gradient, x, scale, zero_point, quant_min, quant_max, before_rounding=True)


def _masked(
    gradient: Tensor,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    quant_min: float,
    quant_max: float,
    *,
    before_rounding: bool,
) -> tuple[Tensor | None, ...]:
    u = x / scale
    level = torch.round(u)
    if zero_point is not None:
        level = level + zero_point
    kept = torch.clamp(level, quant_min, quant_max)
    inside = level == kept
    if before_rounding:
        exact = u if zero_point is None else u + zero_point
        inside = (exact > quant_min) & (exact < quant_max)
    if zero_point is not None:
        kept = kept - zero_point
    dx = torch.where(inside, gradient, 0.0)
    ds = gradient * (kept - torch.where(inside, u, 0.0))
    return dx, ds, None if zero_point is None else (dx - gradient) * scale


AFTER_ROUNDING = Elementwise(F.uniform, _gradients, parameters=2, scalars=2, gradients=2, name="lsq deployed")
BEFORE_ROUNDING = Elementwise(
    F.uniform, _gradients_masked_before, parameters=2, scalars=2, gradients=2, name="lsq_premask deployed"
)


class StepSize(NamedTuple):
    """Two definitions of one quantizer.

    Attributes:
        deployed: of the deployed scale and zero point.
        learned: of the step size, the offset and LSQ's gradient scale, for scales that are not powers of two:
            what lies between them and the deployed ones is computed in the same pass.
    """

    deployed: Elementwise
    learned: Elementwise


def _learned(
    gradients: Callable[..., tuple[Tensor | None, ...]], deployed: Elementwise, name: str
) -> StepSize:
    def parameters(step_size: Any, offset: Any, quant_min: float, quant_max: float) -> tuple[Any, Any]:
        scale = torch.clamp(torch.abs(step_size), F.SCALE_FLOOR, math.inf)
        return scale, None if offset is None else torch.round(torch.clamp(offset, quant_min, quant_max))

    def forward(
        x: Any, step_size: Any, offset: Any, quant_min: float, quant_max: float, gradient_scale: float
    ) -> Any:
        return F.uniform(x, *parameters(step_size, offset, quant_min, quant_max), quant_min, quant_max)

    def backward(
        gradient: Any,
        x: Any,
        step_size: Any,
        offset: Any,
        quant_min: float,
        quant_max: float,
        gradient_scale: float,
    ) -> tuple[Any, ...]:
        found = parameters(step_size, offset, quant_min, quant_max)
        dx, ds, dz = gradients(gradient, x, *found, quant_min, quant_max)
        assert ds is not None
        ds = ds * (torch.where(step_size < 0.0, -1.0, 1.0) * gradient_scale)
        return dx, ds, None if dz is None else dz * gradient_scale

    return StepSize(deployed, Elementwise(forward, backward, parameters=2, scalars=3, gradients=2, name=name))


MASKED_AFTER = _learned(_gradients, AFTER_ROUNDING, "lsq")
MASKED_BEFORE = _learned(_gradients_masked_before, BEFORE_ROUNDING, "lsq_premask")


class _PowerOfTwo(Function):
    """The power of two that a step size stands for; straight through its rounding, with LSQ's gradient scale."""

    @staticmethod
    def forward(ctx: Any, step_size: Tensor, scheme: QuantScheme, gradient_scale: float) -> Tensor:
        deployed = F.deployed_scale(step_size, scheme)
        ctx.save_for_backward(step_size, deployed)
        ctx.gradient_scale = gradient_scale
        return deployed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        step_size, deployed = ctx.saved_tensors
        size = torch.copysign(step_size.abs().clamp_min(F.SCALE_FLOOR), step_size)
        return gradient * ctx.gradient_scale * deployed / size, None, None


class _DeployedZeroPoint(Function):
    """The integer that an offset stands for, passed straight through with LSQ's gradient scale."""

    @staticmethod
    def forward(ctx: Any, offset: Tensor, scheme: QuantScheme, gradient_scale: float) -> Tensor:
        ctx.gradient_scale = gradient_scale
        return _integer(offset, scheme)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.gradient_scale, None, None


def _integer(offset: Tensor, scheme: QuantScheme) -> Tensor:
    return torch.round(offset.clamp(scheme.quant_min, scheme.quant_max))


class LSQ(FakeQuantize):
    """Learned step size; parameters ``step_size`` and, if asymmetric, ``offset`` (the zero point)."""

    observer: ClassVar[str] = "norm"
    no_decay: ClassVar[tuple[str, ...]] = ("offset",)
    definition: ClassVar[StepSize] = MASKED_AFTER

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = self.parameter_shape()
        self.step_size = nn.Parameter(torch.ones(shape))
        self.offset = None if self.scheme.symmetric else nn.Parameter(torch.zeros(shape))

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        scheme = self.scheme
        elements = max(x.numel() // self.step_size.numel(), 1) * self.joint_batches
        gradient_scale = 1 / math.sqrt(elements * scheme.quant_max)
        grid = scheme.quant_min, scheme.quant_max
        axis = self.channel_axis
        if not scheme.power_of_two:
            own = self.step_size, self.offset
            return F.apply(self.definition.learned, x, own, (*grid, gradient_scale), axis=axis)
        scale: Tensor = _PowerOfTwo.apply(self.step_size, scheme, gradient_scale)
        zero_point = None
        if self.offset is not None:
            zero_point = _DeployedZeroPoint.apply(self.offset, scheme, gradient_scale).to(x.dtype)
        return F.apply(self.definition.deployed, x, (scale.to(x.dtype), zero_point), grid, axis=axis)

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
