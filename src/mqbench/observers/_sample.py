"""The distribution of the data in bounded memory: every value while they are few, then a histogram."""

from abc import abstractmethod

import torch
from torch import Tensor

from mqbench.observers._base import Observer
from mqbench.observers._histogram import Histogram, cells_for
from mqbench.scheme import QParams, QuantScheme

MAX_VALUES = 1 << 18
MAX_CHANNEL_VALUES = 1 << 23  # weights: seen once, and exact while a copy is affordable


class SampledObserver(Observer):
    """An observer that searches the distribution after the data has passed, in one pass over it.

    Up to 2^18 values (2^23 in all channels) the result is exact. Beyond that the data is a histogram
    of 2^15 cells between powers of two (for many channels fewer, but at least 2^12), a quarter or more of
    which lie within the range of the data.
    """

    def __init__(self, scheme: QuantScheme, *, channel_axis: int | None = None) -> None:
        super().__init__(scheme, channel_axis=channel_axis)
        self._values: list[Tensor] = []
        self._histogram: Histogram | None = None

    @abstractmethod
    def _from_values(self, rows: Tensor) -> QParams:
        """The choice for all values, ``[channels, values]``."""

    @abstractmethod
    def _from_histogram(self, histogram: Histogram) -> QParams:
        """The choice for more values than are kept."""

    def _accumulate(self, rows: Tensor) -> None:
        if self._histogram is None and self.count * len(rows) <= self._capacity(len(rows)):
            self._values.append(rows.clone())
            return
        lo, hi = self._seen()
        magnitude = torch.maximum(lo.abs(), hi.abs())
        if self._histogram is None:
            self._histogram = Histogram.empty(len(rows), rows.device)
        for kept in (*self._values, rows):
            self._histogram.add(kept, magnitude)
        self._values = []

    def _choose(self) -> QParams:
        if self._histogram is not None:
            return self._from_histogram(self._histogram)
        if len(self._values) > 1:
            self._values = [torch.cat(self._values, dim=1)]
        return self._from_values(self._values[0])

    def _capacity(self, channels: int) -> int:
        if self.channel_axis is None:
            return MAX_VALUES
        return max(MAX_CHANNEL_VALUES, 2 * channels * cells_for(channels))  # no larger than the histogram
