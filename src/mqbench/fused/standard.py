r"""A tensor brought to mean 0 and deviation 1 in the pass of the quantizer behind it.

With the mean m and the deviation s of n elements (ddof 1), r = 1/(s + eps), and y = f((x - m) r),

    dx = r (h - S/n) - (x - m) r^2 D / ((n - 1) s)

where h is the gradient of what f is given, S = sum h and D = sum h (x - m); a deviation of 0 passes no gradient.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.fused.definition import Affine, Before, Definition
from mqbench.fused.loop import takes
from mqbench.fused.moments import STATISTICS, mean_and_variance
from mqbench.fused.norm import COMBINE


def can_standardise(x: Tensor) -> bool:
    """Such a pass over the tensor exists and pays."""
    return (
        takes(x)
        and torch.is_grad_enabled()
        and x.is_contiguous()
        and x.dim() > 0
        and x.numel() > 1
        and STATISTICS.compiled((x.dtype,) * 2) is not None
    )


class _Standardised(Function):
    @staticmethod
    def forward(
        ctx: Any,
        eps: float,
        definition: Definition,
        scalars: tuple[float, ...],
        rows: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        mean, variance = mean_and_variance(rows)
        count = rows.shape[2]
        std = (variance * (count / max(count - 1, 1))).sqrt()
        factor = 1 / (std + eps)
        ctx.save_for_backward(rows, mean, std, factor, *parameters)
        ctx.how = definition, scalars
        before = Before(Affine(mean, factor, torch.zeros_like(mean)))
        return definition.forward(rows, parameters, scalars, axis=1, before=before)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, mean, std, factor, *parameters = ctx.saved_tensors
        definition, scalars = ctx.how
        before = Before(Affine(mean, factor, torch.zeros_like(mean)))
        h, (along, total), totals = definition.backward(
            gradient, rows, parameters, scalars, axis=1, before=before
        )
        count = rows.shape[2]
        slope = torch.where(std > 0, factor.square() * along / (std * -max(count - 1, 1)), 0.0)
        found = COMBINE((h, rows), (mean, factor, factor * total / -count, slope), axis=1, out=[h])
        assert found is not None
        return None, None, None, found.written[0], *totals, *[None] * (len(parameters) - len(totals))


def standardised(
    x: Tensor,
    eps: float,
    definition: Definition,
    parameters: tuple[Tensor | None, ...],
    scalars: tuple[float, ...],
    *,
    per_channel: bool,
) -> Tensor:
    """An elementwise definition of (x - mean)/(std + eps), with all gradients; only where `can_standardise`.

    ``per_channel`` takes mean and deviation of each channel along axis 0, and parameters are ``[channels]`` or 0-d.
    """
    rows = x.view(1, x.shape[0], prod(x.shape[1:])) if per_channel else x.view(1, 1, x.numel())
    y: Tensor = _Standardised.apply(eps, definition, scalars, rows, *parameters)
    return y.view(x.shape)
