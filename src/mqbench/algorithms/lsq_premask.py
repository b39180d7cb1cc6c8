"""LSQ as first published: values are masked before they are rounded, not after (Esser et al., ICLR 2020).

`lsq` passes the gradient where the integer is in range, as inference libraries' fake quantizers do. The
original passes it where u = x/s + z is: Nmin < u < Nmax, strictly. They differ for values within half a
step of the edges, and at x = 0 of an unsigned grid. Everything else is `lsq`'s.
"""

from typing import ClassVar

from mqbench.algorithm import Algorithm
from mqbench.algorithms.lsq import LSQ, MASKED_BEFORE, StepSize


class PremaskedLSQ(LSQ):
    """Learned step size, masked on the unrounded value."""

    definition: ClassVar[StepSize] = MASKED_BEFORE


ALGORITHM = Algorithm(weight=PremaskedLSQ, activation=PremaskedLSQ)
