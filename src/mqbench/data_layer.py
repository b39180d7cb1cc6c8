"""The first convolution: its input is quantized data, to which no gradient flows.

The parameters of that quantizer (a learned scale) still need theirs, sum of dL/dx dx/ds over the input. Through
dL/dx, a convolution of the gradient with few output channels, that costs as much as several other layers. By
linearity it is also the sum of w times the weight gradient that dx/ds as the input would give, which is cheap.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn import grad

from mqbench.fused.activation import Clip
from mqbench.fused.definition import Before, Definition
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
        definition: Definition,
        scalars: Sequence[float],
        clip: Clip | None,
        data: Tensor,
        quantized: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        *parameters: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(data, weight, *parameters)
        ctx.how = operation, options, definition, scalars, Before(clip=clip)
        if quantized is None:
            quantized = definition.forward(data, parameters, scalars, before=Before(clip=clip))
        return operation(quantized, weight, bias, **options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        operation, options, definition, scalars, before = ctx.how
        data, weight, *parameters = ctx.saved_tensors

        def weight_gradient(x: Tensor) -> Tensor:
            return _WEIGHT_GRADIENTS[operation](x, weight.shape, gradient, **options)

        terms = definition.terms(data, parameters, scalars, before.clip)
        totals: list[Tensor | None] = [
            None if term is None else (weight_gradient(term) * weight).sum() for term in terms
        ]
        totals += [None] * (len(parameters) - len(totals))
        d_weight = d_bias = None
        if ctx.needs_input_grad[7]:
            d_weight = weight_gradient(definition.forward(data, parameters, scalars, before=before))
        if ctx.needs_input_grad[8]:
            d_bias = gradient.sum([axis for axis in range(gradient.dim()) if axis != 1])
        return *[None] * 7, d_weight, d_bias, *totals


def data_convolution(
    operation: Any, options: dict[str, Any], x: Tensor | Recipe, weight: Tensor, bias: Tensor | None
) -> Tensor | None:
    """The convolution, if ``x`` is quantized data with parameters that learn; None if it is anything else.

    A recipe is data that is still to be quantized.
    """
    recipe, quantized = (x, None) if isinstance(x, Recipe) else (recipe_of(x), x.detach())
    if recipe is None or recipe.x.requires_grad or not torch.is_grad_enabled():
        return None
    data = recipe.x
    if (
        operation not in _WEIGHT_GRADIENTS
        or isinstance(options["padding"], str)
        or data.dim() != weight.dim()
    ):
        return None
    if data.dtype is not weight.dtype or torch.is_autocast_enabled(data.device.type):
        return None
    how = operation, options, recipe.definition, recipe.scalars, recipe.before.clip
    y: Tensor = _DataConvolution.apply(*how, data, quantized, weight, bias, *recipe.parameters)
    return y
