"""The arithmetic every uniform quantizer shares: Eq. 1, its gradients, and range to parameters.

Scale and zero point are broadcast against the tensor by `broadcast`, so per-tensor and per-channel are
the same code. All divisions are true divisions (an engine divides by the scale; multiplying by its
reciprocal rounds differently at ties).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.scheme import QParams, QuantScheme

SCALE_FLOOR = 2.0**-23


def broadcast(parameter: Tensor, x: Tensor, channel_axis: int | None) -> Tensor:
    """View a ``[channels]`` parameter so that it broadcasts along ``channel_axis`` of ``x``."""
    if channel_axis is None or parameter.dim() == 0:
        return parameter
    shape = [1] * x.dim()
    shape[channel_axis] = -1
    return parameter.reshape(shape)


def reduce_like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Sum an elementwise gradient over the axes that ``parameter`` (already broadcastable) lacks."""
    return gradient.sum_to_size(parameter.shape) if parameter.dim() else gradient.sum()


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


class _FakeQuantize(Function):
    """Eq. 1 with the straight-through estimator: the gradient passes where the integer is in range."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int
    ) -> Tensor:
        level = torch.round(x / scale).add_(zero_point)
        kept = level.clamp(quant_min, quant_max)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(level == kept)
        return kept.sub_(zero_point).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int) -> Tensor:
    """Quantize and dequantize (Eq. 1); the gradient of ``x`` is the straight-through estimator's.

    dL/dx = dL/dy where quant_min <= rint(x/s) + z <= quant_max, else 0. ``scale`` and ``zero_point``
    broadcast against ``x`` and receive no gradient.
    """
    out: Tensor = _FakeQuantize.apply(x, scale, zero_point.to(x.dtype), quant_min, quant_max)
    return out
