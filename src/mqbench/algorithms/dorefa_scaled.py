"""DoReFa that keeps the size of the weight: its output times max|tanh w|; not in the paper.

`dorefa` brings every weight to [-1, 1] whatever its size, which under BN folding changes the gain of the
layer but not its bias (SPEC section 4). Here the output is multiplied by M = max|t|, t = tanh(w), so that
Eq. 1 is applied to t M/(M + 1e-5) and the deployed scale is s M. M is differentiated like the rest:
with m = M + 1e-5, k = argmax|t| and G the straight-through gradient,

    dt = G M/m,   dt_k += sign(t_k) 1e-5 sum(G t)/m^2,   dw = dt (1 - t^2)

Activations are `dorefa`'s.
"""

from typing import ClassVar

import torch
from torch import Tensor

from mqbench.algorithm import Algorithm
from mqbench.algorithms.dorefa import DoReFaActivation, DoReFaWeight


class ScaledDoReFaWeight(DoReFaWeight):
    """Eq. 1 of (nearly) tanh w itself."""

    one_pass: ClassVar[bool] = False

    def transform(self, x: Tensor) -> Tensor:  # noqa: D102
        return super().transform(x) * torch.tanh(x.abs().max())


ALGORITHM = Algorithm(
    weight=ScaledDoReFaWeight, activation=DoReFaActivation, plain_at_first_last=frozenset({"activation"})
)
