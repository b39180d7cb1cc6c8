"""DoReFa: weights through a normalised tanh, activations clipped to [0, 1] or [-1, 1] (Zhou et al., 2016).

Weights: t = tanh(w), w~ = t / (max|t| + 1e-5) with the maximum over the whole tensor even per channel
(which keeps the relative size of the channels), then Eq. 1 with scale and zero point from the minimum
and maximum of w~. The output stays in the units of w~. With m = max|t| + 1e-5, k = argmax|t| and G the
straight-through gradient, dt = G/m, dt_k -= sign(t_k) sum(G t)/m^2, dw = dt (1 - t^2): what autograd gives.

The paper's 2/(Nmax - Nmin) is the symmetric scale at max|w~| = 1. The 1e-5 bounds the exponential growth
that a scale-free quantizer has under folding strategy 4 (SPEC section 4).
"""

from typing import ClassVar

import torch
from torch import Tensor

from mqbench.algorithm import Algorithm
from mqbench.algorithms._clipping import ClippedActivation
from mqbench.algorithms._ranges import WeightRange

EPSILON = 1e-5


class DoReFaWeight(WeightRange):
    """Eq. 1 of the normalised tanh; integers and scale describe w~, no tanh at run time."""

    def transform(self, x: Tensor) -> Tensor:  # noqa: D102
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
