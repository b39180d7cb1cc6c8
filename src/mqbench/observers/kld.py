r"""KLD: the shrunken range whose quantized histogram diverges least from that of the data.

Exact zeros are dropped (after a ReLU they are half of the data, and cost nothing). The others fill 2048
bins on [lo, hi], symmetric [-m, m], unsigned [0, m]. For a range r_i [lo, hi], r_i = 1 - 0.01 i, P is the
mass of the bins whose centre lies within, and the mass outside joins the edge bins; Q spreads the mass
that each level (Eq. 1 of the bin centre) has within the range evenly over its bins with P > 0. Both are
normalised and sum P ln(P / max(Q, 1e-12)) is minimised, the first of equals.

The paper's Eq. 9 would compare 2048 bins with at most 2^t occupied ones, which is least for the range
of one bin a level whatever the data; spreading is what it means.
"""

import torch
from torch import Tensor

from mqbench.observers import _bins
from mqbench.observers._divergence import BINS, Binned
from mqbench.observers._histogram import Histogram
from mqbench.observers._search import Ranges, SearchedObserver, search


class KLD(SearchedObserver):
    """Keeps the shape of the distribution and gives up what lies far out.

    Constant data keeps the range [min(x, 0), max(x, 0)], as does all-zero data (the scale is then the
    floor, 2^-23).
    """

    def _ratio_of_values(self, rows: Tensor, every: Ranges) -> Tensor:
        return self._least(_bins.nonzeros(rows, every.lo, every.hi, BINS), every)

    def _ratio_of_histogram(self, histogram: Histogram, every: Ranges) -> Tensor:
        curve, steps = histogram.curve(), torch.arange(1, BINS, device=every.lo.device)
        edge = every.lo[:, None] + steps * _bins.width(every.lo, every.hi, BINS)[:, None]
        none, everything = curve.mass_at[:, :1], curve.mass_at[:, -1:]
        mass = torch.cat([none, curve.mass(edge), everything], dim=1)
        return self._least(mass.diff(dim=1), every)

    @staticmethod
    def _least(counts: Tensor, every: Ranges) -> Tensor:
        binned = Binned(counts)
        return search(every, binned.bound(every), binned.divergence)


OBSERVER = KLD
