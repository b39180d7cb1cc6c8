"""The arithmetic every uniform quantizer shares: Eq. 1, its gradients, and range to parameters.

Scale and zero point are broadcast against the tensor by `broadcast`, so per-tensor and per-channel are
the same code. All divisions are true divisions (an engine divides by the scale; multiplying by its
reciprocal rounds differently at ties).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.fused.activation import Clip
from mqbench.fused.behind import can_follow, followed
from mqbench.fused.definition import NOTHING, Before, Definition
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.incoming import Incoming as Incoming
from mqbench.fused.incoming import incoming as incoming
from mqbench.fused.recompute import Recipe, remember
from mqbench.fused.shapes import broadcast as broadcast
from mqbench.fused.shapes import reduce_like as reduce_like
from mqbench.scheme import QParams, QuantScheme

SCALE_FLOOR = 2.0**-23


def power_of_two(scale: Tensor) -> Tensor:
    """Nearest power of two in the log domain: 2^rint(log2 s)."""
    return torch.exp2(torch.round(torch.log2(scale)))


def deployed_scale(scale: Tensor, scheme: QuantScheme) -> Tensor:
    """The scale that is computed with: |s| floored at 2^-23, then a power of two if the scheme says so."""
    scale = scale.abs().clamp_min(SCALE_FLOOR)
    return power_of_two(scale) if scheme.power_of_two else scale


def range_to_qparams(lo: Tensor, hi: Tensor, scheme: QuantScheme) -> QParams:
    """Scale and zero point that cover [lo, hi] and real 0 (SPEC section 1, "Range to parameters").

    Symmetric signed ranges divide by (2^t - 1)/2, so that +max lands on the upper edge plus one half and
    saturates, as in the paper's Eq. 6 and 11. Computed in float64: lo/s is often a tie by construction
    ([-1, 1] with 4 bits gives -7.5), which float32 would break at random.
    """
    dtype = lo.dtype
    lo, hi = lo.double().clamp_max(0.0), hi.double().clamp_min(0.0)
    levels = scheme.quant_max - scheme.quant_min
    if not scheme.symmetric:
        scale = deployed_scale((hi - lo) / levels, scheme)
        zero_point = (scheme.quant_min - torch.round(lo / scale)).clamp(scheme.quant_min, scheme.quant_max)
        return QParams(scale.to(dtype), zero_point.to(torch.int32))
    scale = torch.maximum(-lo, hi) / (levels / 2) if scheme.signed else hi / scheme.quant_max
    return QParams(deployed_scale(scale, scheme).to(dtype), torch.zeros_like(lo, dtype=torch.int32))


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> Tensor:
    """Integers of Eq. 1 as int32; ``scale`` and ``zero_point`` broadcast against ``x``.

    The quotient is rounded half to even first, then the zero point is added (the other order differs at
    ties for odd zero points). NaN becomes the zero point.
    """
    rounded = torch.round(x / scale).nan_to_num_(nan=0.0).add_(zero_point)
    return rounded.clamp_(quant_min, quant_max).to(torch.int32)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Real values of the integers: (q - z) s."""
    return (q - zero_point).to(scale.dtype) * scale


def uniform(
    x: Tensor, scale: Tensor, zero_point: Tensor | None, quant_min: float, quant_max: float
) -> Tensor:
    """Eq. 1, quantized and dequantized; no zero point is 0. The forward half of every uniform quantizer."""
    level = torch.round(x / scale)
    if zero_point is None:
        return torch.clamp(level, quant_min, quant_max) * scale
    return (torch.clamp(level + zero_point, quant_min, quant_max) - zero_point) * scale


def _straight_through(
    gradient: Tensor,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    quant_min: float,
    quant_max: float,
) -> tuple[Tensor | None, ...]:
    level = torch.round(x / scale)
    if zero_point is not None:
        level = level + zero_point
    return (torch.where((level >= quant_min) & (level <= quant_max), gradient, 0.0),)


STRAIGHT_THROUGH = Elementwise(uniform, _straight_through, parameters=2, scalars=2, name="straight through")
"""Eq. 1 with the straight-through estimator: the gradient passes where the integer is in range."""


class _Apply(Function):
    """An elementwise definition in autograd; it keeps only its input."""

    @staticmethod
    def forward(
        ctx: Any,
        definition: Definition,
        scalars: tuple[float, ...],
        axis: int | None,
        clip: Clip | None,
        gain: Tensor | None,
        x: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, gain, *parameters)
        ctx.how = definition, scalars, axis, clip
        return definition.forward(x, parameters, scalars, axis=axis, before=Before(clip=clip, gain=gain))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        definition, scalars, axis, clip = ctx.how
        x, gain, *parameters = ctx.saved_tensors
        before = Before(clip=clip, gain=gain)
        dx, ahead, totals = definition.backward(gradient, x, parameters, scalars, axis=axis, before=before)
        rest = len(parameters) - len(totals)
        return None, None, None, None, *(ahead or [None]), dx, *totals, *[None] * rest


def apply(
    definition: Definition,
    x: Incoming,
    parameters: tuple[Tensor | None, ...],
    scalars: tuple[float, ...],
    *,
    axis: int | None = None,
) -> Tensor:
    """An elementwise definition with its gradients; ``x`` may have a batch norm, a gain and a clip still to come."""
    if x.norm is not None:
        if can_follow(definition):
            return followed(x.norm, x.clip, definition, parameters, scalars)
        x = x.with_norm()
    clip, gain = x.clip, x.gain
    before = NOTHING if clip is None and gain is None else Before(clip=clip, gain=gain)
    if axis is None and torch.compiler.is_compiling() and isinstance(x.tensor, nn.Parameter):
        axis = 0  # alike for one scale; but a weight's pass is called
    learns = [x.tensor, gain, *parameters] if torch.is_grad_enabled() else []
    if not any(p is not None and p.requires_grad for p in learns):
        return definition.forward(x.tensor, parameters, scalars, axis=axis, before=before)
    y: Tensor = _Apply.apply(definition, scalars, axis, clip, gain, x.tensor, *parameters)
    recipe = Recipe(definition, x.tensor, parameters, scalars, axis, before)
    remember(y, recipe)
    if x.made is not None:
        x.made.append((y, recipe))
    return y


def made(recipe: Recipe) -> Tensor:
    """What a recipe makes, with its gradients."""
    how = recipe.definition, recipe.scalars, recipe.axis, recipe.before.clip, recipe.before.gain
    y: Tensor = _Apply.apply(*how, recipe.x, *recipe.parameters)
    return y


def fake_quantize(
    x: Tensor | Incoming,
    scale: Tensor,
    zero_point: Tensor | None,
    quant_min: int,
    quant_max: int,
    *,
    axis: int | None = None,
) -> Tensor:
    """Quantize and dequantize (Eq. 1); the gradient of ``x`` is the straight-through estimator's.

    dL/dx = dL/dy where quant_min <= rint(x/s) + z <= quant_max, else 0. ``scale`` and ``zero_point`` are
    0-d or ``[channels]`` along ``axis`` and receive no gradient; no zero point is 0.
    """
    x = incoming(x)
    zero_point = None if zero_point is None else zero_point.to(x.dtype)
    return apply(STRAIGHT_THROUGH, x, (scale.to(x.dtype), zero_point), (quant_min, quant_max), axis=axis)
