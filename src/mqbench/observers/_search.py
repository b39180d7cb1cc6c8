"""The 95 shrunken ranges that MSE and KLD choose from, and the search for the best.

r_i = 1 - 0.01 i for i = 0..94; the range is r_i [lo, hi], symmetric r_i [-m, m] with m = max|x|. A cheap
lower bound of the loss spares most candidates the evaluation, and changes no choice.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mqbench.functional import range_to_qparams
from mqbench.observers._histogram import Histogram
from mqbench.observers._sample import SampledObserver
from mqbench.scheme import QParams, QuantScheme

COUNT = 95
TOGETHER = 64  # channels that are searched at once; each evaluates as many rivals as the worst has
SLACK = 1e-4  # relative; far above the rounding error of a bound


@dataclass(frozen=True, eq=False)
class Ranges:
    """Ranges ``ratio`` [rivals, channels] times the widest one, ``lo`` and ``hi`` [channels]."""

    lo: Tensor
    hi: Tensor
    ratio: Tensor
    scheme: QuantScheme

    def qparams(self) -> QParams:
        """Scale and zero point of every range, ``[rivals, channels]``."""
        return range_to_qparams(self.ratio * self.lo, self.ratio * self.hi, self.scheme)


class SearchedObserver(SampledObserver):
    """Shrinks the range of each channel by the ratio that a loss likes best."""

    @abstractmethod
    def _ratio_of_values(self, rows: Tensor, every: Ranges) -> Tensor:
        """Best ratio ``[channels]`` for ``rows`` [channels, values]."""

    @abstractmethod
    def _ratio_of_histogram(self, histogram: Histogram, every: Ranges) -> Tensor:
        """Best ratio ``[channels]`` for a histogram."""

    def _from_values(self, rows: Tensor) -> QParams:
        return self._shrunken(lambda some, every: self._ratio_of_values(rows[some], every))

    def _from_histogram(self, histogram: Histogram) -> QParams:
        return self._shrunken(lambda some, every: self._ratio_of_histogram(histogram[some], every))

    def _shrunken(self, best: Callable[[slice, Ranges], Tensor]) -> QParams:
        lo, hi = self._range()
        if self.scheme.symmetric:
            hi = torch.maximum(lo.abs(), hi.abs())
            lo = -hi if self.scheme.signed else torch.zeros_like(hi)
        lo, hi = lo.clamp_max(0), hi.clamp_min(0)
        ratio = 1 - 0.01 * torch.arange(COUNT, dtype=torch.float64, device=lo.device)
        found = []
        for some in portions(len(lo), 1, TOGETHER):
            every = ratio[:, None].expand(-1, len(lo[some]))
            found.append(best(some, Ranges(lo[some], hi[some], every, self.scheme)))
        return Ranges(lo, hi, torch.cat(found), self.scheme).qparams()


def search(every: Ranges, bound: Tensor, loss: Callable[[Ranges], Tensor]) -> Tensor:
    """The ratio of least loss for each channel, the first (widest) of equals, ``[channels]``.

    ``bound`` is no more than ``loss(every)``; both are ``[95, channels]``.
    """
    lower, order = bound.sort(dim=0, stable=True)
    first = loss(replace(every, ratio=every.ratio.gather(0, order[:1])))
    rivals = max(int((lower < first * (1 + SLACK)).sum(dim=0).amax()), 1)  # no rival to a loss of 0
    ratio = every.ratio.gather(0, order[:rivals].sort(dim=0).values)
    least = loss(replace(every, ratio=ratio)).argmin(dim=0, keepdim=True)
    return ratio.gather(0, least)[0]


def portions(count: int, size: int, budget: int) -> Iterator[slice]:
    """Slices of ``count`` things of ``size`` values each, at most ``budget`` values at a time."""
    step = max(1, budget // size)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
