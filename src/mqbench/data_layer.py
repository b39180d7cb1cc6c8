"""The first convolution: its input is quantized data, to which no gradient flows.

The parameters of that quantizer (a learned scale) still need theirs, sum of dL/dx dx/ds over the input. Through
dL/dx, a convolution of the gradient with few output channels, that costs as much as several other layers. By
linearity it is also the sum of w times the weight gradient that dx/ds as the input would give, which is cheap.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn import grad

from mqbench.fused.recompute import Recipe, recipe_of

_WEIGHT_GRADIENTS: dict[Any, Any] = {
    F.conv1d: grad.conv1d_weight,
    F.conv2d: grad.conv2d_weight,
    F.conv3d: grad.conv3d_weight,
}


class _DataConvolution(Function):
    @staticmethod
    def forward(
        ctx: Any,
        operation: Any,
        options: dict[str, Any],
        recipe: Recipe,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        *parameters: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(recipe.x, weight, *parameters)
        ctx.how = operation, options, recipe
        return operation(x, weight, bias, **options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        operation, options, recipe = ctx.how
        data, weight, *parameters = ctx.saved_tensors

        def weight_gradient(x: Tensor) -> Tensor:
            return _WEIGHT_GRADIENTS[operation](x, weight.shape, gradient, **options)

        terms = recipe.definition.terms(data, parameters, recipe.scalars, recipe.before.clip)
        totals: list[Tensor | None] = [
            None if term is None else (weight_gradient(term) * weight).sum() for term in terms
        ]
        totals += [None] * (len(parameters) - len(totals))
        d_weight = weight_gradient(recipe.make()) if ctx.needs_input_grad[4] else None
        d_bias = None
        if ctx.needs_input_grad[5]:
            d_bias = gradient.sum([axis for axis in range(gradient.dim()) if axis != 1])
        return None, None, None, None, d_weight, d_bias, *totals


def data_convolution(
    operation: Any, options: dict[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor | None:
    """The convolution, if ``x`` is quantized data with parameters that learn; None if it is anything else."""
    recipe = recipe_of(x)
    if recipe is None or recipe.x.requires_grad or not torch.is_grad_enabled():
        return None
    if operation not in _WEIGHT_GRADIENTS or isinstance(options["padding"], str) or x.dim() != weight.dim():
        return None
    if x.dtype is not weight.dtype or torch.is_autocast_enabled(x.device.type):
        return None
    y: Tensor = _DataConvolution.apply(
        operation, options, recipe, x.detach(), weight, bias, *recipe.parameters
    )
    return y
