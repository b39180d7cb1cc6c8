"""The 95 shrunken ranges that MSE and KLD choose from, and the search for the best.

r_i = 1 - 0.01 i for i = 0..94; the range is r_i [lo, hi], symmetric r_i [-m, m] with m = max|x|. A cheap
lower bound of the loss spares most candidates the evaluation, and changes no choice.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mqbench.functional import range_to_qparams
from mqbench.observers._histogram import Histogram
from mqbench.observers._sample import SampledObserver
from mqbench.scheme import QParams, QuantScheme

COUNT = 95
TOGETHER = 128  # channels that are searched at once
SLACK = 1e-4  # relative; far above the rounding error of a bound

Loss = Callable[[Tensor], Tensor]
"""From pairs of a channel and a candidate, numbered channel * 95 + candidate, to float64 losses ``[pairs]``."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """95 ranges for each channel, the widest of which is ``lo`` to ``hi``, float64 ``[channels]``."""

    lo: Tensor
    hi: Tensor
    scheme: QuantScheme

    @cached_property
    def ratio(self) -> Tensor:
        """r_i, ``[95]``."""
        return 1 - 0.01 * torch.arange(COUNT, dtype=torch.float64, device=self.lo.device)

    @cached_property
    def qparams(self) -> QParams:
        """Scale and zero point of every range, float64 ``[channels, 95]``."""
        found = range_to_qparams(self.lo[:, None] * self.ratio, self.hi[:, None] * self.ratio, self.scheme)
        return QParams(found.scale, found.zero_point.double())


class SearchedObserver(SampledObserver):
    """Shrinks the range of each channel by the ratio that a loss likes best."""

    @abstractmethod
    def _losses_of_values(self, rows: Tensor, candidates: Candidates) -> Tensor:
        """The loss of every candidate that may be the best, else inf, ``[channels, 95]``."""

    @abstractmethod
    def _losses_of_histogram(self, histogram: Histogram, candidates: Candidates) -> Tensor:
        """The same for a histogram."""

    def _from_values(self, rows: Tensor) -> QParams:
        return self._best(lambda some, every: self._losses_of_values(rows[some], every))

    def _from_histogram(self, histogram: Histogram) -> QParams:
        return self._best(lambda some, every: self._losses_of_histogram(histogram[some], every))

    def _best(self, losses: Callable[[slice, Candidates], Tensor]) -> QParams:
        lo, hi = self._range()
        if self.scheme.symmetric:
            hi = torch.maximum(lo.abs(), hi.abs())
            lo = -hi if self.scheme.signed else torch.zeros_like(hi)
        lo, hi = lo.clamp_max(0), hi.clamp_min(0)
        ratios = []
        for some in portions(len(lo), 1, TOGETHER):
            candidates = Candidates(lo[some], hi[some], self.scheme)
            widest_best = losses(some, candidates).argmin(dim=1)
            ratios.append(candidates.ratio[widest_best])
        ratio = torch.cat(ratios)
        return range_to_qparams(ratio * lo, ratio * hi, self.scheme)


def evaluate(loss: Loss, bound: Tensor, guess: Tensor | None = None) -> Tensor:
    """The loss where it may be the least of its channel, else inf, ``[channels, 95]``.

    ``bound`` is no more than the loss; ``guess``, if given, says better which candidate to try first.
    """
    first = (bound if guess is None else guess).argmin(dim=1)
    first += torch.arange(0, bound.numel(), COUNT, device=bound.device)
    losses = torch.full_like(bound, torch.inf)
    losses.view(-1)[first] = least = loss(first)
    rivals = bound <= (least + SLACK * least.abs())[:, None]
    rivals.view(-1)[first] = False
    pairs = rivals.view(-1).nonzero()[:, 0]
    if len(pairs):
        losses.view(-1)[pairs] = loss(pairs)
    return losses


def portions(count: int, size: int, budget: int) -> Iterator[slice]:
    """Slices of ``count`` things of ``size`` values each, at most ``budget`` values at a time."""
    step = max(1, budget // size)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
