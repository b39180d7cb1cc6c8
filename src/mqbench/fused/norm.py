r"""A batch norm that is computed in the pass of the quantizer behind it.

With the layer's output c, its mean m and biased variance v, and a divisor f and bias b that strategy 4 puts in
between (f = 1 and b = 0 otherwise), the batch norm of o = c/f + b is

    y = (c - m) A + beta,   A = gamma sign(f) r,   r = 1/sqrt(v + eps f^2)

since o has mean m/f + b and variance v/f^2: the division needs no pass of its own, and b cancels. With the
gradient h of y, S = sum h and D = sum h (c - m) for each channel, and n elements a channel,

    d gamma = sign(f) r D,  d beta = S,  df = -A r^2 D eps f
    dc = A (h - S/n) - (c - m) A r^2 D / n
"""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version

from mqbench.fused import opaque
from mqbench.fused.activation import Clip
from mqbench.fused.definition import Affine, Before, Definition
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.loop import Loop, takes
from mqbench.fused.shapes import is_channels_last
from mqbench.fused.vectors import Vectors


@dataclass(frozen=True, kw_only=True)
class DeferredNorm:
    """A training-mode batch norm of ``output / divisor + bias`` that has not been computed yet.

    Whoever takes it computes it once: by `compute`, or within a quantizer's pass. Both move the running
    statistics. Vectors are ``[channels]``, the channels along axis 1 of ``output``.
    """

    output: Tensor
    gamma: Tensor
    beta: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float
    eps: float
    divisor: Tensor | None = None
    bias: Tensor | None = None

    def compute(self) -> Tensor:
        """The normalised tensor."""
        return normalised(self, None, IDENTITY, (), ())


def can_defer(output: Tensor) -> bool:
    """A fused pass over this layer output exists and pays."""
    return (
        torch.is_grad_enabled()
        and output.dim() > 2
        and (output.is_contiguous() or is_channels_last(output))
        and output.numel() > output.shape[1]
        and (
            (takes(output) and STATISTICS.compiled((output.dtype,) * 2) is not None)
            or (opaque.sees(output) and _there_are_passes())
        )
    )


@opaque.constant
def _there_are_passes() -> bool:
    return STATISTICS.compiled((torch.float32,) * 2) is not None


def _sums(x: Any, origin: Any) -> Any:
    centred = x - origin
    return centred, centred * centred


def _combine(gradient: Any, x: Any, mean: Any, factor: Any, constant: Any, slope: Any) -> Any:
    return gradient * factor + constant + (x - mean) * slope


def _along(x: Any, mean: Any, constant: Any, slope: Any) -> Any:
    return constant + (x - mean) * slope


def _same(x: Any) -> Any:
    return x


def _gradient(gradient: Any, x: Any) -> Any:
    return (gradient,)


def _gradient_sums(gradient: Any, x: Any, mean: Any) -> Any:
    return gradient * (x - mean), gradient * 1.0


IDENTITY = Elementwise(_same, _gradient, parameters=0, scalars=0, name="identity")
_GRADIENT_SUMS = Loop(
    _gradient_sums,
    tensors=["gradient", "x"],
    parameters=["mean"],
    sums=[0, 0],
    writes=0,
    name="gradient_sums",
)
STATISTICS = Loop(_sums, tensors=["x"], parameters=["origin"], sums=[0, 0], writes=0, name="statistics")
_ALONG = Loop(_along, tensors=["x"], parameters=["mean", "constant", "slope"], name="along")
COMBINE = Loop(
    _combine, tensors=["gradient", "x"], parameters=["mean", "factor", "constant", "slope"], name="combine"
)


def _sums_around(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first element of each channel, and sum and sum of squares around it."""
    if torch.compiler.is_compiling():
        origin = x.flatten(2)[0, :, 0].contiguous()
    else:
        origin = x.as_strided((x.shape[1],), (x.stride(1),), x.storage_offset()).contiguous()
    found = STATISTICS((x,), (origin,), axis=1)
    assert found is not None
    first, second = found.sums
    return origin, first, second


def _moments(origin: Any, first: Any, second: Any, elements: float) -> tuple[Any, Any]:
    first = first / elements
    return origin + first, torch.clamp(second / elements - first * first, 0.0, inf)


def _begin(
    gamma: Any,
    running_mean: Any,
    running_var: Any,
    divisor: Any,
    bias: Any,
    origin: Any,
    first: Any,
    second: Any,
    elements: float,
    eps: float,
    momentum: float,
    correction: float,
) -> tuple[Any, ...]:
    """The running statistics moved; mean, inverse r and factor A of the batch norm."""
    mean, variance = _moments(origin, first, second, elements)
    if divisor is None:
        inverse = 1.0 / torch.sqrt(variance + eps)
        m, v = mean, variance
    else:
        inverse = torch.copysign(1.0 / torch.sqrt(variance + divisor * divisor * eps), divisor)
        m, v = mean / divisor, variance / (divisor * divisor)
    if bias is not None:
        m = m + bias
    moved_mean = running_mean + (m - running_mean) * momentum
    moved_var = running_var + (v * correction - running_var) * momentum
    return moved_mean, moved_var, mean, inverse, gamma * inverse


def _end(
    divisor: Any, factor: Any, inverse: Any, d_beta: Any, d_factor: Any, elements: float, eps: float
) -> tuple[Any, ...]:
    """Constant and slope of the gradient of c, and the gradients of gamma and the divisor."""
    slope = factor * inverse * inverse * d_factor
    d_divisor = None if divisor is None else slope * divisor * -eps
    return factor * d_beta / -elements, slope / -elements, inverse * d_factor, d_divisor


_SUMS = ["origin", "first", "second"]
_MOMENTS = Vectors(_moments, tensors=_SUMS, scalars=["elements"])
_BEGIN = Vectors(
    _begin,
    tensors=["gamma", "running_mean", "running_var", "divisor", "bias", *_SUMS],
    scalars=["elements", "eps", "momentum", "correction"],
)
_END = Vectors(
    _end, tensors=["divisor", "factor", "inverse", "d_beta", "d_factor"], scalars=["elements", "eps"]
)


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, ``[channels]``, in one pass around the first element of each channel."""
    mean, variance = _MOMENTS(_sums_around(x), (x.numel() // x.shape[1],))
    return mean, variance


class _Statistics(Function):
    """Mean and biased variance; one pass forward and one backward."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = mean_and_variance(output)
        ctx.save_for_backward(output, mean)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_variance: Tensor) -> Tensor:
        output, mean = ctx.saved_tensors
        count = output.numel() // output.shape[1]
        found = _ALONG((output,), (mean, d_mean / count, d_variance * (2 / count)), axis=1)
        assert found is not None
        return found.written[0]


def fused_statistics(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, ``[channels]``, differentiable; only where `can_defer`."""
    mean, variance = _Statistics.apply(output)
    return mean, variance


@torch.no_grad()
def _begun(norm: DeferredNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, inverse r and factor A of a batch norm, in one pass; moves the running statistics."""
    output, running = norm.output, (norm.running_mean, norm.running_var)
    count = output.numel() // output.shape[1]
    *_, mean, inverse, factor = _BEGIN(
        (norm.gamma, *running, norm.divisor, norm.bias, *_sums_around(output)),
        (count, norm.eps, norm.momentum, count / max(count - 1, 1)),
        out=running,
    )
    if not torch.compiler.is_compiling():
        increment_version(running)
    return mean, inverse, factor


class _Normalised(Function):
    """Batch norm, clip and an elementwise definition, in one pass; the statistics are known."""

    @staticmethod
    def forward(
        ctx: Any,
        eps: float,
        clip: Clip | None,
        definition: Definition,
        scalars: tuple[float, ...],
        mean: Tensor,
        inverse: Tensor,
        factor: Tensor,
        output: Tensor,
        gamma: Tensor,
        beta: Tensor,
        divisor: Tensor | None,
        bias: Tensor | None,
        *parameters: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(output, mean, factor, beta, inverse, divisor, *parameters)
        ctx.how, ctx.has_bias = (clip, definition, scalars, eps), bias is not None
        before = Before(Affine(mean, factor, beta), clip)
        return definition.forward(output, parameters, scalars, before=before)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, mean, factor, beta, inverse, divisor, *parameters = ctx.saved_tensors
        clip, definition, scalars, eps = ctx.how
        before = Before(Affine(mean, factor, beta), clip)
        none: list[Tensor | None] = [None] * 7
        if definition is IDENTITY and clip is None:
            h, own, totals = gradient, None, none[:0]
            found = _GRADIENT_SUMS((gradient, output), (mean,), axis=1)
            assert found is not None
            affine = found.sums
        else:
            h, affine, totals = definition.backward(gradient, output, parameters, scalars, before=before)
            own = h
        d_factor, d_beta = affine
        count = output.numel() // output.shape[1]
        constant, slope, d_gamma, d_divisor = _END((divisor, factor, inverse, d_beta, d_factor), (count, eps))
        found = COMBINE((h, output), (mean, factor, constant, slope), axis=1, out=[own])
        assert found is not None
        d_bias = torch.zeros_like(mean) if ctx.has_bias else None  # it cancels; weight decay still wants it
        rest = [None] * (len(parameters) - len(totals))
        return *none, found.written[0], d_gamma, d_beta, d_divisor, d_bias, *totals, *rest


def normalised(
    norm: DeferredNorm,
    clip: Clip | None,
    definition: Definition,
    parameters: tuple[Tensor | None, ...],
    scalars: tuple[float, ...],
) -> Tensor:
    """An elementwise definition of a clipped batch norm, with all gradients."""
    vectors = norm.gamma, norm.beta, norm.divisor, norm.bias
    begun = _begun(norm)
    y: Tensor = _Normalised.apply(
        norm.eps, clip, definition, scalars, *begun, norm.output, *vectors, *parameters
    )
    return y
