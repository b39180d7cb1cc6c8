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

from mqbench.observers._divergence import BINS, Divergence, counts_of, width_of
from mqbench.observers._histogram import Histogram
from mqbench.observers._search import Candidates, Loss, SearchedObserver, evaluate

ERROR = 2e-5  # of a divergence in float32


class KLD(SearchedObserver):
    """Keeps the shape of the distribution and gives up what lies far out.

    Constant data keeps the range [min(x, 0), max(x, 0)], as does all-zero data (the scale is then the
    floor, 2^-23).
    """

    def _losses_of_values(self, rows: Tensor, candidates: Candidates) -> Tensor:
        return self._losses(counts_of(rows, candidates), candidates)

    def _losses_of_histogram(self, histogram: Histogram, candidates: Candidates) -> Tensor:
        curve, steps = histogram.curve(), torch.arange(1, BINS, device=candidates.lo.device)
        edge = candidates.lo[:, None] + steps * width_of(candidates)[:, None]
        none, everything = curve.mass_at[:, :1], curve.mass_at[:, -1:]
        mass = torch.cat([none, curve.mass(edge), everything], dim=1)
        return self._losses(mass.round().long().diff(dim=1, prepend=none.long()), candidates)

    @staticmethod
    def _losses(counts: Tensor, candidates: Candidates) -> Tensor:
        divergence = Divergence(counts, candidates)
        outer = divergence.outer()

        def loss(dtype: torch.dtype) -> Loss:
            return lambda pairs: outer.take(pairs) + divergence.between(pairs, dtype)

        losses = evaluate(loss(torch.float32), outer - ERROR)
        near = losses <= losses.amin(dim=1, keepdim=True) + 2 * ERROR
        near &= near.sum(dim=1, keepdim=True) > 1
        ties = near.view(-1).nonzero()[:, 0]
        losses.view(-1)[ties] = loss(torch.float64)(ties)
        return losses


OBSERVER = KLD
