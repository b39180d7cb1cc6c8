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
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.fused.activation import Clip
from mqbench.fused.elementwise import Affine, Before, Definition, Elementwise
from mqbench.fused.loop import Loop, takes


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

    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, from those of ``output``."""
        if self.divisor is not None:
            mean, variance = mean / self.divisor, variance / self.divisor.square()
        if self.bias is not None:
            mean = mean + self.bias
        count = self.output.numel() // self.output.shape[1]
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


def can_defer(output: Tensor) -> bool:
    """A fused pass over this layer output exists and pays."""
    return (
        takes(output)
        and torch.is_grad_enabled()
        and output.dim() > 2
        and output.is_contiguous()
        and output.numel() > output.shape[1]
        and STATISTICS.compiled((output.dtype,) * 2) is not None
    )


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


IDENTITY = Elementwise(_same, _gradient, parameters=0, scalars=0)
_GRADIENT_SUMS = Loop(
    _gradient_sums, tensors=["gradient", "x"], parameters=["mean"], sums=[0, 0], writes=False
)
STATISTICS = Loop(_sums, tensors=["x"], parameters=["origin"], sums=[0, 0], writes=False)
_ALONG = Loop(_along, tensors=["x"], parameters=["mean", "constant", "slope"])
COMBINE = Loop(_combine, tensors=["gradient", "x"], parameters=["mean", "factor", "constant", "slope"])


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, ``[channels]``, in one pass around the first element of each channel."""
    origin = x.detach()[0].flatten(1)[:, 0]
    count = x.numel() // x.shape[1]
    found = STATISTICS((x,), (origin,), axis=1)
    assert found is not None
    first, second = (total / count for total in found[1])
    return origin + first, (second - first * first).clamp_min_(0)


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
        assert found[0] is not None
        return found[0]


def fused_statistics(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, ``[channels]``, differentiable; only where `can_defer`."""
    mean, variance = _Statistics.apply(output)
    return mean, variance


class _Normalised(Function):
    """Batch norm, clip and an elementwise definition: one pass for the statistics, one for all the rest."""

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
        mean, variance = mean_and_variance(output)
        norm.update(mean, variance)
        eps = norm.eps if divisor is None else norm.eps * divisor.square()
        inverse = torch.rsqrt(variance + eps)
        if divisor is not None:
            inverse = torch.copysign(inverse, divisor)
        factor = gamma * inverse
        ctx.save_for_backward(output, mean, factor, beta, inverse, divisor, *parameters)
        ctx.how, ctx.has_bias = (clip, definition, scalars, norm.eps), bias is not None
        before = Before(Affine(mean, factor, beta), clip)
        return definition.forward(output, parameters, scalars, before=before)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, mean, factor, beta, inverse, divisor, *parameters = ctx.saved_tensors
        clip, definition, scalars, eps = ctx.how
        before = Before(Affine(mean, factor, beta), clip)
        if definition is IDENTITY and clip is None:
            h, own = gradient, None
            sums = _GRADIENT_SUMS((gradient, output), (mean,), axis=1)
            assert sums is not None
            affine, totals = sums[1], list[Tensor | None]()
        else:
            h, affine, totals = definition.backward(gradient, output, parameters, scalars, before=before)
            own = h
        d_factor, d_beta = affine
        count = output.numel() // output.shape[1]
        slope = factor * inverse.square() * d_factor
        d_divisor = None if divisor is None else slope * divisor * -eps
        vectors = mean, factor, factor * d_beta / -count, slope / -count
        found = COMBINE((h, output), vectors, axis=1, out=own)
        assert found is not None
        d_bias = torch.zeros_like(mean) if ctx.has_bias else None  # it cancels; weight decay still wants it
        rest = [None] * (len(parameters) - len(totals))
        return (
            None, None, None, None, found[0], inverse * d_factor, d_beta, d_divisor, d_bias, *totals, *rest,
        )  # fmt: skip


def normalised(
    norm: DeferredNorm,
    clip: Clip | None,
    definition: Definition,
    parameters: tuple[Tensor | None, ...],
    scalars: tuple[float, ...],
) -> Tensor:
    """An elementwise definition of a clipped batch norm, with all gradients."""
    vectors = norm.gamma, norm.beta, norm.divisor, norm.bias
    y: Tensor = _Normalised.apply(norm, clip, definition, scalars, norm.output, *vectors, *parameters)
    return y
