"""What is computed behind a batch norm or a rescaling, in its pass.

In a model that is being compiled all that is behind a batch norm is one call forward and one backward.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.fused import opaque
from mqbench.fused.activation import Clip
from mqbench.fused.definition import Affine, Before, Definition
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.norm import IDENTITY, Deferred, DeferredNorm, Known, Rescaled, begin, end


def computed(deferred: Deferred) -> Tensor:
    """The normalised or rescaled tensor."""
    return followed(deferred, None, IDENTITY, (), ())


def left_by(module: Any, deferred: Deferred) -> Tensor | Deferred:
    """``deferred``, if a quantizer alone reads the module (``module.defers``) and nobody watches; else computed."""
    return deferred if module.defers and not module._forward_hooks else computed(deferred)


def can_follow(definition: Definition) -> bool:
    """A definition can join the pass of a batch norm; in a model that is being compiled it needs a name."""
    return not torch.compiler.is_compiling() or (
        isinstance(definition, Elementwise) and definition.name is not None
    )


def followed(
    deferred: Deferred,
    clip: Clip | None,
    definition: Definition,
    parameters: tuple[Tensor | None, ...],
    scalars: tuple[float, ...],
) -> Tensor:
    """An elementwise definition of what was deferred, clipped, with all gradients."""
    y: Tensor
    if isinstance(deferred, Rescaled):
        vectors = deferred.factor, deferred.shift
        y = _Rescaled.apply(clip, definition, scalars, deferred.output, *vectors, *parameters)
    elif torch.compiler.is_compiling():
        y = _called(deferred, clip, definition, parameters, scalars)
    else:
        own = deferred.gamma, deferred.beta, deferred.divisor, deferred.bias
        y = _Normalised.apply(deferred, clip, definition, scalars, deferred.output, *own, *parameters)
    return y


class _Normalised(Function):
    """One pass for the statistics, one for all the rest."""

    @staticmethod
    def forward(
        ctx: Any,
        norm: DeferredNorm,
        clip: Clip | None,
        definition: Definition,
        scalars: tuple[float, ...],
        output: Tensor,
        gamma: Tensor,
        beta: Tensor,
        divisor: Tensor | None,
        bias: Tensor | None,
        *parameters: Tensor | None,
    ) -> Tensor:
        known = begin(norm)
        ctx.save_for_backward(output, *known, *parameters)
        ctx.how, ctx.has_bias = (norm.eps, clip, definition, scalars), bias is not None
        return definition.forward(output, parameters, scalars, before=Before(known.affine, clip))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, *saved = ctx.saved_tensors
        size = len(Known._fields)
        known, parameters = Known(*saved[:size]), saved[size:]
        eps, clip, definition, scalars = ctx.how
        found = end(gradient, output, known, eps, clip, definition, parameters, scalars)
        d_bias = (
            torch.zeros_like(known.mean) if ctx.has_bias else None
        )  # it cancels; weight decay still wants it
        rest = [None] * (len(parameters) - len(found.parameters))
        return None, None, None, None, *found[:4], d_bias, *found.parameters, *rest


class _Rescaled(Function):
    """One pass each way."""

    @staticmethod
    def forward(
        ctx: Any,
        clip: Clip | None,
        definition: Definition,
        scalars: tuple[float, ...],
        output: Tensor,
        factor: Tensor,
        shift: Tensor,
        *parameters: Tensor | None,
    ) -> Tensor:
        affine = Affine(torch.zeros_like(factor), factor, shift)
        ctx.save_for_backward(output, *affine, *parameters)
        ctx.how = clip, definition, scalars
        return definition.forward(output, parameters, scalars, before=Before(affine, clip))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, mean, factor, shift, *parameters = ctx.saved_tensors
        clip, definition, scalars = ctx.how
        before = Before(Affine(mean, factor, shift), clip, through=True)
        d_output, vectors, totals = definition.backward(gradient, output, parameters, scalars, before=before)
        rest = [None] * (len(parameters) - len(totals))
        return None, None, None, d_output, *vectors, *totals, *rest


# -- in a model that is being compiled ---------------------------------------------------------------

_FORM = "behind a norm"


class _Behind:
    """A definition behind a batch norm: forward for one tensor, backward for two; as `opaque.Pass`."""

    writes = 1

    def __init__(self, definition: opaque.Pass) -> None:
        assert isinstance(definition, Elementwise)
        self._definition = definition

    def run(self, call: opaque.Call) -> list[Tensor]:
        """y, mean, inverse, factor and the moved running statistics; or the gradients of all that has one."""
        tensors, parameters, scalars, _, ahead, clip = call
        ends = Clip(*clip) if clip else None
        if len(tensors) == 1:
            (output,), (gamma, beta, running_mean, running_var) = tensors, ahead
            divisor, bias, *own = parameters
            eps, momentum, *numbers = scalars
            norm = DeferredNorm(
                output=output, gamma=gamma, beta=beta, running_mean=running_mean.clone(),
                running_var=running_var.clone(), momentum=momentum, eps=eps, divisor=divisor, bias=bias,
            )  # fmt: skip
            known = begin(norm)
            y = self._definition.forward(output, own, numbers, before=Before(known.affine, ends))
            return [y, *known[:3], norm.running_mean, norm.running_var]
        gradient, output = tensors
        divisor, *own = parameters
        mean, inverse, factor, beta = ahead
        eps, *numbers = scalars
        known = Known(mean, inverse, factor, beta, divisor)
        found = end(gradient, output, known, eps, ends, self._definition, own, numbers)
        return [found.output, *(g for g in (*found[1:4], *found.parameters) if g is not None)]

    def summed(self, call: opaque.Call) -> list[Tensor]:
        """For each vector what it has the shape of."""
        if len(call.tensors) == 1:
            return [call.ahead[0]] * 5
        divisor, *own = call.parameters
        return [call.ahead[0]] * (2 if divisor is None else 3) + self._definition.learned(own)


opaque.register_form(_FORM, _Behind)


class _Called(Function):
    """As `_Normalised`; gives the moved running statistics too."""

    @staticmethod
    def forward(
        ctx: Any,
        name: str,
        clip: Clip | None,
        numbers: tuple[float, float],
        scalars: tuple[float, ...],
        running_mean: Tensor,
        running_var: Tensor,
        output: Tensor,
        gamma: Tensor,
        beta: Tensor,
        divisor: Tensor | None,
        bias: Tensor | None,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, ...]:
        y, mean, inverse, factor, moved_mean, moved_var = opaque.call(
            name, [output], [divisor, bias, *parameters], [*numbers, *scalars],
            ahead=[gamma, beta, running_mean, running_var], clip=() if clip is None else clip,
        )  # fmt: skip
        ctx.save_for_backward(output, mean, inverse, factor, beta, divisor, *parameters)
        ctx.how, ctx.has_bias = (name, clip, [numbers[0], *scalars]), bias is not None
        ctx.mark_non_differentiable(moved_mean, moved_var)
        return y, moved_mean, moved_var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        output, mean, inverse, factor, beta, divisor, *parameters = ctx.saved_tensors
        name, clip, scalars = ctx.how
        d_output, d_gamma, d_beta, *rest = opaque.call(
            name, [gradient, output], [divisor, *parameters], scalars,
            ahead=[mean, inverse, factor, beta], clip=() if clip is None else clip,
        )  # fmt: skip
        d_divisor = None if divisor is None else rest.pop(0)
        d_bias = torch.zeros_like(mean) if ctx.has_bias else None
        totals = [None if p is None or not rest else rest.pop(0) for p in parameters]
        none: list[Tensor | None] = [None] * 6
        return *none, d_output, d_gamma, d_beta, d_divisor, d_bias, *totals


def _called(
    norm: DeferredNorm,
    clip: Clip | None,
    definition: Definition,
    parameters: tuple[Tensor | None, ...],
    scalars: tuple[float, ...],
) -> Tensor:
    assert isinstance(definition, Elementwise)
    running = norm.running_mean, norm.running_var
    vectors = norm.gamma, norm.beta, norm.divisor, norm.bias
    name, numbers = f"{definition.name} {_FORM}", (norm.eps, norm.momentum)
    y, *moved = _Called.apply(name, clip, numbers, scalars, *running, norm.output, *vectors, *parameters)
    with torch.no_grad():
        for statistic, new in zip(running, moved, strict=True):
            statistic.copy_(new)
    return y
