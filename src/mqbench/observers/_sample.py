"""The distribution of the data in bounded memory: every value while they are few, then a histogram."""

from abc import abstractmethod

import torch
from torch import Tensor

from mqbench.observers._base import Observer
from mqbench.observers._histogram import Histogram, cells_for
from mqbench.observers._statistic import Piece, Statistic, range_of, scan
from mqbench.scheme import QParams

MAX_VALUES = 1 << 18
MAX_CHANNEL_VALUES = 1 << 23  # weights: seen once, and exact while a copy is affordable


class Sample(Statistic):
    """All values, at most ``capacity`` of them, or a histogram of more."""

    def __init__(self, rows: Tensor, capacity: int) -> None:
        self.capacity = capacity
        self._values: list[Tensor] = []
        self.histogram: Histogram | None = None
        if rows.numel() <= capacity:
            self._values = [rows.clone()]
        else:
            self.histogram = Histogram.empty(len(rows), rows.device)

    def add(self, piece: Piece) -> None:
        """Count a piece, unless all values are kept."""
        if self.histogram is not None:
            self.histogram.add(piece)

    def add_all(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Count all values at once, if there is a way; what is kept is kept already."""
        return range_of(rows) if self.histogram is None else self.histogram.add_all(rows)

    def merge(self, later: "Sample") -> None:
        """Keep the values of both while they are few."""
        values = self._values + later._values
        few = sum(rows.numel() for rows in values) <= self.capacity
        if self.histogram is None and later.histogram is None and few:
            self._values = values
            return
        histogram = self.histogram or later.histogram or Histogram.empty(len(values[0]), values[0].device)
        if self.histogram is not None and later.histogram is not None:
            histogram.merge(later.histogram)
        for rows in values:
            scan(rows, histogram)
        self.histogram, self._values = histogram, []

    def values(self) -> Tensor:
        """All values, ``[channels, values]``."""
        if len(self._values) > 1:
            self._values = [torch.cat(self._values, dim=1)]
        return self._values[0]


class SampledObserver(Observer):
    """An observer that searches the distribution after the data has passed, in one pass over it.

    Up to 2^18 values (2^23 in all channels) the result is exact. Beyond that the data is a histogram
    of 2^14 cells between powers of two (for many channels fewer, but at least 2^12), a quarter or more of
    which lie within the range of the data.
    """

    @abstractmethod
    def _from_values(self, rows: Tensor) -> QParams:
        """The choice for all values, ``[channels, values]``."""

    @abstractmethod
    def _from_histogram(self, histogram: Histogram) -> QParams:
        """The choice for more values than are kept."""

    def _fresh(self, rows: Tensor) -> Sample:
        return Sample(rows, self._capacity(len(rows)))

    def _choose(self) -> QParams:
        sample: Sample = self._statistic
        if sample.histogram is not None:
            return self._from_histogram(sample.histogram)
        return self._from_values(sample.values())

    def _capacity(self, channels: int) -> int:
        if self.channel_axis is None:
            return MAX_VALUES
        return max(MAX_CHANNEL_VALUES, 2 * channels * cells_for(channels))  # no larger than the histogram
