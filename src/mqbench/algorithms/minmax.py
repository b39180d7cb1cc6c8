"""MinMax: Eq. 1 over the range of the data, straight-through gradient, nothing learned.

Weights take their own minimum and maximum at every step, activations an exponential moving average with
momentum 0.9 that is frozen in eval mode. The 8-bit first and last layers of PACT, DoReFa, QIL, APoT and
LQ-Net use it for their activations (SPEC section 7).
"""

from mqbench.algorithm import Algorithm
from mqbench.algorithms._ranges import MovingRange, WeightRange


class MinMaxWeight(WeightRange):
    """The weight's own minimum and maximum."""


class MinMaxActivation(MovingRange):
    """Moving average of the batch's minimum and maximum."""


ALGORITHM = Algorithm(weight=MinMaxWeight, activation=MinMaxActivation)
