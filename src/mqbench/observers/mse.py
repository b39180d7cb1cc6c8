r"""MSE: the shrunken range of least mean squared quantization error.

Minimises mean (x_hat - x)^2 over r_i [lo, hi], r_i = 1 - 0.01 i for i = 0..94 (the paper's Eq. 8, which
must read x_hat and not the integer), each channel on its own, the first of equals.
"""

from torch import Tensor

from mqbench.observers import _mse_loss
from mqbench.observers._histogram import Histogram
from mqbench.observers._search import Ranges, SearchedObserver, search


class MSE(SearchedObserver):
    """Weighs clipping against rounding by their squared errors.

    All-zero data keeps the whole range (the scale is then the floor, 2^-23).
    """

    def _ratio_of_values(self, rows: Tensor, every: Ranges) -> Tensor:
        bound = _mse_loss.bound_of_values(rows, every)
        return search(every, bound, lambda some: _mse_loss.loss_of_values(rows, some))

    def _ratio_of_histogram(self, histogram: Histogram, every: Ranges) -> Tensor:
        curve = histogram.curve()
        bound = _mse_loss.bound_of_curve(curve, every)
        return search(every, bound, lambda some: _mse_loss.loss_of_curve(curve, some))


OBSERVER = MSE
