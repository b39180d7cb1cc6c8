r"""MSE: the shrunken range of least mean squared quantization error.

Minimises mean (x_hat - x)^2 over r_i [lo, hi], r_i = 1 - 0.01 i for i = 0..94 (the paper's Eq. 8, which
must read x_hat and not the integer), each channel on its own, the first of equals.
"""

from torch import Tensor

from mqbench.observers._histogram import Histogram
from mqbench.observers._search import Candidates, SearchedObserver, evaluate
from mqbench.observers._squared_error import loss_of_curve, loss_of_values
from mqbench.observers._squared_error_bound import bound_of_curve, bound_of_values


class MSE(SearchedObserver):
    """Weighs clipping against rounding by their squared errors.

    All-zero data keeps the whole range (the scale is then the floor, 2^-23).
    """

    def _losses_of_values(self, rows: Tensor, candidates: Candidates) -> Tensor:
        return evaluate(loss_of_values(rows, candidates), *bound_of_values(rows, candidates))

    def _losses_of_histogram(self, histogram: Histogram, candidates: Candidates) -> Tensor:
        curve = histogram.curve()
        return evaluate(loss_of_curve(curve, candidates), bound_of_curve(curve, candidates))


OBSERVER = MSE
