"""The factor gamma / deviation of a folded batch norm that strategy 4 divides its output by again."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.fused.vectors import Vectors

GUARD = 1e-12


def _factor(gamma: Any, variance: Any, eps: float) -> tuple[Any, Any]:
    """g/sd, and 1/sd; a dead channel must not divide by zero, and gets no gradient."""
    dead = torch.abs(gamma) < GUARD
    deviation = torch.sqrt(variance + eps)
    kept = torch.where(dead, torch.copysign(gamma * 0.0 + GUARD, gamma), gamma)
    return kept / deviation, torch.where(dead, 0.0, 1.0 / deviation)


_VECTORS = Vectors(_factor, tensors=["gamma", "variance"], scalars=["eps"])


class _Factor(Function):
    @staticmethod
    def forward(ctx: Any, gamma: Tensor, variance: Tensor, eps: float) -> Tensor:
        factor, slope = _VECTORS((gamma, variance), (eps,))
        ctx.save_for_backward(slope)
        return factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None, None


def guarded_factor(gamma: Tensor, variance: Tensor, eps: float) -> Tensor:
    """gamma / sqrt(variance + eps), ``[channels]``, with |gamma| at least 1e-12; the variance is constant.

    The gradient of gamma is 0 where it was raised to that.
    """
    if torch.compiler.is_compiling():  # which fuses these operations itself
        return _factor(gamma, variance.detach(), eps)[0]
    factor: Tensor = _Factor.apply(gamma, variance, eps)
    return factor
