"""LSQ+: LSQ from a better start: MeanStd for weights, MSE for activations (Bhalgat et al., CVPRW 2020).

The mathematics is `lsq`'s, which already learns the zero point of asymmetric schemes as LSQ+ does. What
differs is the initialisation of scale and zero point (paper appendix C.4): three standard deviations
around the mean of the weight, the least squared quantization error of the activation.
"""

from typing import ClassVar

from mqbench.algorithm import Algorithm
from mqbench.algorithms.lsq import LSQ


class LSQPlusWeight(LSQ):
    """Starts from MeanStd."""

    observer: ClassVar[str] = "meanstd"


class LSQPlusActivation(LSQ):
    """Starts from MSE."""

    observer: ClassVar[str] = "mse"


ALGORITHM = Algorithm(weight=LSQPlusWeight, activation=LSQPlusActivation)
