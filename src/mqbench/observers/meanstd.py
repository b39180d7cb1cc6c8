r"""MeanStd: the range that a normal distribution would fill to 99.7 %.

With the mean mu and the standard deviation sd (ddof = 1) of the data and a = 3 (the paper's Eq. 11):
symmetric s = max(|mu - a sd|, |mu + a sd|) / ((2^t - 1)/2), unsigned (mu + a sd)/Nmax; asymmetric the
range [mu - a sd, mu + a sd] cut to that of the data. Means and squares are merged block by block by
Chan's formula in float64, so that neither length nor a large mean costs precision.
"""

import torch
from torch import Tensor

from mqbench.functional import range_to_qparams
from mqbench.observers._base import Observer, blocks
from mqbench.scheme import QParams

DEVIATIONS = 3.0


class MeanStd(Observer):
    """Three standard deviations around the mean; a single value has a deviation of 0."""

    _mean: Tensor | None = None
    _square: Tensor | None = None  # sum of squared deviations from the mean
    _merged: Tensor | None = None  # values behind the two, for each channel

    def _accumulate(self, rows: Tensor) -> None:
        if self._mean is None or self._square is None or self._merged is None:
            zeros = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
            self._mean, self._square, self._merged = zeros, zeros.clone(), zeros.clone()
        for channel, piece in blocks(rows):
            fresh = piece.shape[1]
            mean = piece.mean(dim=1, dtype=torch.float64)
            square = (piece - mean[:, None]).square_().sum(dim=1)
            old = self._merged[channel]
            shift, weight = mean - self._mean[channel], fresh / (old + fresh)
            self._mean[channel] += shift * weight
            self._square[channel] += square + shift.square() * old * weight
            self._merged[channel] += fresh

    def population_deviation(self) -> Tensor:
        """Standard deviation (ddof 0) of all data seen, 0-d or ``[channels]``, float64."""
        self._seen()
        assert self._square is not None
        return self._shaped((self._square / self.count).sqrt())

    def _choose(self) -> QParams:
        assert self._mean is not None
        assert self._square is not None
        reach = DEVIATIONS * (self._square / max(self.count - 1, 1)).sqrt()
        lo, hi = self._mean - reach, self._mean + reach
        if not self.scheme.symmetric:
            least, most = self._range()
            lo, hi = torch.maximum(lo, least), torch.minimum(hi, most)
        return range_to_qparams(lo, hi, self.scheme)


OBSERVER = MeanStd
