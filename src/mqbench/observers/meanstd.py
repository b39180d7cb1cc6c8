r"""MeanStd: the range that a normal distribution would fill to 99.7 %.

With the mean mu and the standard deviation sd (ddof = 1) of the data and a = 3 (the paper's Eq. 11):
symmetric s = max(|mu - a sd|, |mu + a sd|) / ((2^t - 1)/2), unsigned (mu + a sd)/Nmax; asymmetric the
range [mu - a sd, mu + a sd] cut to that of the data. Means and squares are merged block by block by
Chan's formula in float64, so that neither length nor a large mean costs precision.
"""

from typing import Self

import torch
from torch import Tensor

from mqbench.functional import range_to_qparams
from mqbench.observers._base import Observer
from mqbench.observers._moments import Kind, summarise
from mqbench.observers._statistic import Piece, Statistic
from mqbench.scheme import QParams

DEVIATIONS = 3.0


class Moments(Statistic):
    """Number, mean and sum of squared deviations from it, float64 ``[channels]``."""

    def __init__(self, rows: Tensor) -> None:
        self.number, self.mean, self.square = torch.zeros(
            3, len(rows), dtype=torch.float64, device=rows.device
        ).unbind()

    def add(self, piece: Piece) -> None:
        """Merge in one piece; deviations from about its mean are small, so its own type will do."""
        values, fresh = piece.summable(), piece.values.shape[1]
        centre = values.mean(dim=1)
        deviation = values - centre[:, None]
        rest = deviation.sum(dim=1).double() / fresh
        square = torch.linalg.vecdot(deviation, deviation).double() - fresh * rest.square()
        self._join(piece.channels, torch.full_like(rest, fresh), centre + rest, square.clamp_min(0))

    def add_all(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Take the moments of all values in one compiled pass, if there is one."""
        found = summarise(rows, Kind.MOMENTS)
        if found is None:
            return None
        self.mean, self.square = found.first, found.square
        self.number = torch.full_like(self.mean, rows.shape[1])
        return found.lo, found.hi

    def merge(self, later: Self) -> None:
        """Merge two batches."""
        self._join(slice(None), later.number, later.mean, later.square)

    def _join(self, channels: slice, number: Tensor, mean: Tensor, square: Tensor) -> None:
        old, shift = self.number[channels], mean - self.mean[channels]
        weight = number / (old + number)
        self.square[channels] += square + shift.square() * old * weight
        self.mean[channels] += shift * weight
        self.number[channels] += number


class MeanStd(Observer):
    """Three standard deviations around the mean; a single value has a deviation of 0."""

    def _fresh(self, rows: Tensor) -> Moments:
        return Moments(rows)

    def population_deviation(self) -> Tensor:
        """Standard deviation (ddof 0) of all data seen, 0-d or ``[channels]``, float64."""
        self._seen()
        return self._shaped((self._statistic.square / self.count).sqrt())

    def _choose(self) -> QParams:
        moments = self._statistic
        reach = DEVIATIONS * (moments.square / max(self.count - 1, 1)).sqrt()
        lo, hi = moments.mean - reach, moments.mean + reach
        if not self.scheme.symmetric:
            least, most = self._range()
            lo, hi = torch.maximum(lo, least), torch.minimum(hi, most)
        return range_to_qparams(lo, hi, self.scheme)


OBSERVER = MeanStd
