r"""A batch norm that is computed in the pass of the quantizer behind it.

With the layer's output c, its mean m and biased variance v, and a divisor f and bias b that strategy 4 puts in
between (f = 1 and b = 0 otherwise), the batch norm of o = c/f + b is

    y = (c - m) A + beta,   A = gamma sign(f) r,   r = 1/sqrt(v + eps f^2)

since o has mean m/f + b and variance v/f^2: the division needs no pass of its own, and b cancels. With the
gradient h of y, S = sum h and D = sum h (c - m) for each channel, and n elements a channel,

    d gamma = sign(f) r D,  d beta = S,  df = -A r^2 D eps f
    dc = A (h - S/n) - (c - m) A r^2 D / n
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from mqbench.fused import opaque
from mqbench.fused.activation import Clip
from mqbench.fused.definition import Affine, Before, Definition
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.loop import Loop, takes
from mqbench.fused.moments import STATISTICS, SUMS, moments, sums_around
from mqbench.fused.shapes import is_channels_last
from mqbench.fused.vectors import Vectors


@dataclass(frozen=True, kw_only=True)
class DeferredNorm:
    """A training-mode batch norm of ``output / divisor + bias`` that has not been computed yet.

    Whoever takes it computes it once, by `behind.computed`, or within a quantizer's pass. Both move the running
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


@dataclass(frozen=True, kw_only=True)
class Rescaled:
    """``output factor + shift``, with vectors ``[channels]`` along axis 1, that has not been computed yet.

    Strategy 3's correction; like a `DeferredNorm` it is computed once, by whoever takes it.
    """

    output: Tensor
    factor: Tensor
    shift: Tensor


Deferred = DeferredNorm | Rescaled
"""What a layer may leave to the quantizer that alone reads it."""


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


def _combine(gradient: Any, x: Any, mean: Any, factor: Any, constant: Any, slope: Any) -> Any:
    return gradient * factor + constant + (x - mean) * slope


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
)
COMBINE = Loop(_combine, tensors=["gradient", "x"], parameters=["mean", "factor", "constant", "slope"])


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
    mean, variance = moments(origin, first, second, elements)
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


_BEGIN = Vectors(
    _begin,
    tensors=["gamma", "running_mean", "running_var", "divisor", "bias", *SUMS],
    scalars=["elements", "eps", "momentum", "correction"],
)
_END = Vectors(
    _end, tensors=["divisor", "factor", "inverse", "d_beta", "d_factor"], scalars=["elements", "eps"]
)


class Known(NamedTuple):
    """What is known of a batch norm once its statistics are: ``[channels]`` each; the divisor may be None."""

    mean: Tensor
    inverse: Tensor
    factor: Tensor
    beta: Tensor
    divisor: Tensor | None

    @property
    def affine(self) -> Affine:
        """The batch norm with these."""
        return Affine(self.mean, self.factor, self.beta)


class Gradients(NamedTuple):
    """Of the layer's output, gamma, beta, the divisor, and of each parameter of the definition behind."""

    output: Tensor
    gamma: Tensor
    beta: Tensor
    divisor: Tensor | None
    parameters: list[Tensor | None]


@torch.no_grad()
def begin(norm: DeferredNorm) -> Known:
    """The statistics, in one pass; moves the running ones."""
    output, running = norm.output, (norm.running_mean, norm.running_var)
    count = output.numel() // output.shape[1]
    *_, mean, inverse, factor = _BEGIN(
        (norm.gamma, *running, norm.divisor, norm.bias, *sums_around(output)),
        (count, norm.eps, norm.momentum, count / max(count - 1, 1)),
        out=running,
    )
    increment_version(running)
    return Known(mean, inverse, factor, norm.beta, norm.divisor)


def end(
    gradient: Tensor,
    output: Tensor,
    known: Known,
    eps: float,
    clip: Clip | None,
    definition: Definition,
    parameters: Sequence[Tensor | None],
    scalars: Sequence[float],
) -> Gradients:
    """The gradients of a definition behind a clip behind a batch norm, from that of its result."""
    before = Before(known.affine, clip)
    own, totals = None, list[Tensor | None]()
    if definition is IDENTITY and clip is None:
        h = gradient
        found = _GRADIENT_SUMS((gradient, output), (known.mean,), axis=1)
        assert found is not None
        affine = found.sums
    else:
        h, affine, totals = definition.backward(gradient, output, parameters, scalars, before=before)
        own = h
    d_factor, d_beta = affine
    count = output.numel() // output.shape[1]
    constant, slope, d_gamma, d_divisor = _END(
        (known.divisor, known.factor, known.inverse, d_beta, d_factor), (count, eps)
    )
    found = COMBINE((h, output), (known.mean, known.factor, constant, slope), axis=1, out=[own])
    assert found is not None
    return Gradients(found.written[0], d_gamma, d_beta, d_divisor, totals)
