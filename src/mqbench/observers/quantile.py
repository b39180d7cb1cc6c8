"""Quantile: the range without the most extreme values.

lo and hi are the quantiles 1 - a and a of the data, a = 0.9999, interpolated linearly between order
statistics; the paper's "(1 - a) %" means the fraction 1 - a. For more values than are kept exactly,
an order statistic is known within a cell of the histogram, less than one 2048th of the range.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mqbench.functional import range_to_qparams
from mqbench.observers._histogram import Histogram
from mqbench.observers._sample import SampledObserver
from mqbench.scheme import QParams

TAIL = 1e-4  # 1 - a


class Quantile(SampledObserver):
    """Cuts the lowest and the highest ten-thousandth off."""

    def _from_values(self, rows: Tensor) -> QParams:
        extremes = min(int(TAIL * (self.count - 1)) + 2, self.count)
        low = rows.topk(extremes, dim=1, largest=False).values.double()
        high = rows.topk(extremes, dim=1).values.double()
        return self._interpolate(lambda rank: low[:, rank], lambda rank: high[:, rank])

    def _from_histogram(self, histogram: Histogram) -> QParams:
        return self._interpolate(histogram.ranked, lambda rank: histogram.ranked(self.count - 1 - rank))

    def _interpolate(self, low: Callable[[int], Tensor], high: Callable[[int], Tensor]) -> QParams:
        """``low(k)`` and ``high(k)`` are the k-th value from the bottom and from the top."""
        place = TAIL * (self.count - 1)
        rank = int(place)
        after = min(rank + 1, self.count - 1)
        lo, hi = (torch.lerp(end(rank), end(after), place - rank) for end in (low, high))
        least, most = self._range()
        return range_to_qparams(torch.maximum(lo, least), torch.minimum(hi, most), self.scheme)


OBSERVER = Quantile
