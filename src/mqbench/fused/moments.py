"""Mean and variance of each channel of a tensor, in one pass forward and one backward."""

from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.fused.loop import Loop
from mqbench.fused.vectors import Vectors


def _sums(x: Any, origin: Any) -> Any:
    centred = x - origin
    return centred, centred * centred


def _along(x: Any, mean: Any, constant: Any, slope: Any) -> Any:
    return constant + (x - mean) * slope


STATISTICS = Loop(_sums, tensors=["x"], parameters=["origin"], sums=[0, 0], writes=0, name="statistics")
_ALONG = Loop(_along, tensors=["x"], parameters=["mean", "constant", "slope"], name="along")


def sums_around(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first element of each channel, and sum and sum of squares around it."""
    if torch.compiler.is_compiling():
        origin = x.flatten(2)[0, :, 0].contiguous()
    else:
        origin = x.as_strided((x.shape[1],), (x.stride(1),), x.storage_offset()).contiguous()
    found = STATISTICS((x,), (origin,), axis=1)
    assert found is not None
    first, second = found.sums
    return origin, first, second


def moments(origin: Any, first: Any, second: Any, elements: float) -> tuple[Any, Any]:
    """Mean and variance, from the sums around an origin."""
    first = first / elements
    return origin + first, torch.clamp(second / elements - first * first, 0.0, inf)


SUMS = ["origin", "first", "second"]
_MOMENTS = Vectors(moments, tensors=SUMS, scalars=["elements"])


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, ``[channels]``, in one pass around the first element of each channel."""
    mean, variance = _MOMENTS(sums_around(x), (x.numel() // x.shape[1],))
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
