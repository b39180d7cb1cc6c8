"""DoReFa: weights through a normalised tanh, activations clipped to [0, 1] or [-1, 1] (Zhou et al., 2016).

Weights: t = tanh(w), w~ = t / (max|t| + 1e-5) with the maximum over the whole tensor even per channel
(which keeps the relative size of the channels), then Eq. 1 with scale and zero point from the minimum
and maximum of w~. The output stays in the units of w~. With m = max|t| + 1e-5, k = argmax|t| and G the
straight-through gradient, dt = G/m, dt_k -= sign(t_k) sum(G t)/m^2, dw = dt (1 - t^2): what autograd gives.

The paper's 2/(Nmax - Nmin) is the symmetric scale at max|w~| = 1. The 1e-5 bounds the exponential growth
that a scale-free quantizer has under folding strategy 4 (SPEC section 4).
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.algorithm import Algorithm
from mqbench.algorithms._clipping import ClippedActivation
from mqbench.algorithms._ranges import WeightRange, row_ranges
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.loop import takes
from mqbench.fused.near import near_tanh

EPSILON = 1e-5


def _divided(tanh: Callable[[Tensor], Tensor]) -> Elementwise:
    """tanh(x)/m and its gradients."""

    def forward(x: Tensor, m: Tensor) -> Tensor:
        return tanh(x) / m

    def backward(gradient: Tensor, x: Tensor, m: Tensor) -> tuple[Tensor | None, ...]:
        t = tanh(x)
        dt = gradient / m
        return dt * (1 - t * t), -(dt * t) / m

    return Elementwise(forward, backward, parameters=1, scalars=0, gradients=1)


DIVIDED, DIVIDED_NEAR = _divided(torch.tanh), _divided(near_tanh)
NEAR = 0.7


class _NormalisedTanh(Function):
    """w -> w~ by passes that read the weight once; the tanh is monotone, so max|t| is that of max|w|."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        lo, hi = row_ranges(x.reshape(1, -1))
        largest = torch.maximum(hi, -lo)
        definition = DIVIDED_NEAR if float(largest) <= NEAR else DIVIDED
        top = definition.forward(largest, (torch.ones((), dtype=x.dtype),), ())[0]
        m = top + EPSILON
        ctx.save_for_backward(x, top, m)
        ctx.ends = [end for end in {float(lo), float(hi)} if abs(end) == float(largest)]
        ctx.definition = definition
        return definition.forward(x, (m,), ())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, top, m = ctx.saved_tensors
        dx, _, (dm,) = ctx.definition.backward(gradient, x, (m,), ())
        assert dm is not None
        places = [(x == end).nonzero(as_tuple=True) for end in ctx.ends]
        number = sum(len(place[0]) for place in places)
        for place in places:
            dx[place] += x[place].sign() * (dm * (1 - top * top) / number)
        return (dx,)


class DoReFaWeight(WeightRange):
    """Eq. 1 of the normalised tanh; integers and scale describe w~, no tanh at run time."""

    def transform(self, x: Tensor) -> Tensor:  # noqa: D102
        if takes(x):
            w: Tensor = _NormalisedTanh.apply(x)
            return w
        t = torch.tanh(x)
        return t / (t.abs().max() + EPSILON)


class DoReFaActivation(ClippedActivation):
    """Fixed clipping at 1."""

    initial: ClassVar[float] = 1.0
    learned: ClassVar[bool] = False
    uses_observer: ClassVar[bool] = False


ALGORITHM = Algorithm(
    weight=DoReFaWeight, activation=DoReFaActivation, plain_at_first_last=frozenset({"activation"})
)
