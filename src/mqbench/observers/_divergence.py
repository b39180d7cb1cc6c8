"""Divergence of a 2048-bin histogram from its quantized self, and a lower bound of it.

Q is constant over the filled bins of a level, so a candidate costs a look-up in running sums for each
level instead of a term for each bin. Merging bins can only lessen a divergence: with the two edge levels
and all that lies between them, three groups, it is a bound.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from mqbench.observers._bins import width
from mqbench.observers._search import Ranges, portions

BINS = 2048
LEAST = 1e-12
LOOKUPS = 1 << 16


class Binned:
    """Counts ``[channels, 2048]`` over the widest range, and their running sums."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts
        parts = (counts, (counts > 0).double(), torch.xlogy(counts, counts))
        self.mass, self.filled, self.entropy = (pad(part.cumsum(dim=1), (1, 0)) for part in parts)
        self.total = self.mass[:, -1:]  # 0 in a channel of zeros: every divergence is then 0

    def divergence(self, ranges: Ranges) -> Tensor:
        """The divergence for every range, ``[rivals, channels]``."""
        grid, size = _Grid.of(ranges), len(ranges.lo) * min(1 << ranges.scheme.bits, BINS)
        parts = [self._divergence(grid[some]) for some in portions(len(ranges.ratio), size, LOOKUPS)]
        return torch.cat(parts, dim=1).T

    def bound(self, ranges: Ranges) -> Tensor:
        """A lower bound of the divergence for every range, ``[rivals, channels]``."""
        grid = _Grid.of(ranges)
        below, inside, above = self._thirds(grid)
        low_end = grid.first_of(grid.level_at(grid.first) + 1)
        high_start = grid.first_of(grid.level_at(grid.last - 1))
        low = _at(self.mass, low_end) - _at(self.mass, grid.first)
        high = _at(self.mass, grid.last) - _at(self.mass, high_start)
        middle = inside - low - high
        bound = _terms(low + below, low / inside.clamp_min(LEAST))
        bound += _terms(high + above, high / inside.clamp_min(LEAST))
        bound += _terms(middle, middle / inside.clamp_min(LEAST))
        bound = bound / self.total.clamp_min(1) - self.total.clamp_min(1).log()
        return bound.where(low_end <= high_start, 0).T  # a single level holds everything

    def _thirds(self, grid: "_Grid") -> tuple[Tensor, Tensor, Tensor]:
        below, end = _at(self.mass, grid.first), _at(self.mass, grid.last)
        return below, end - below, self.total - end

    def _divergence(self, grid: "_Grid") -> Tensor:
        below, inside, above = self._thirds(grid)
        edges = grid.edges()
        mass, filled = _at(self.mass, edges).diff(dim=2), _at(self.filled, edges).diff(dim=2)
        share, entropy = mass.clone(), _at(self.entropy, grid.last) - _at(self.entropy, grid.first)
        lowest = torch.searchsorted(edges, grid.first[..., None], right=True) - 1
        highest = torch.searchsorted(edges, grid.last[..., None]) - 1
        for level, bin_, outside in ((lowest, grid.first, below), (highest, grid.last - 1, above)):
            own = _at(self.counts, bin_)
            share.scatter_add_(2, level, outside[..., None])
            filled.scatter_add_(2, level, ((own == 0) & (outside > 0)).double()[..., None])
            entropy += torch.xlogy(own + outside, own + outside) - torch.xlogy(own, own)
        spread = mass.div_(filled.clamp_min_(1)).div_(inside.clamp_min(LEAST)[..., None])
        cross = torch.linalg.vecdot(share, spread.clamp_min_(LEAST).log_())
        total = self.total.clamp_min(1)
        divergence: Tensor = (entropy - cross) / total - total.log()
        return divergence


@dataclass(frozen=True, eq=False)
class _Grid:
    """Where levels begin among the bins; all ``[channels, rivals]`` or broadcast against it."""

    lo: Tensor
    width: Tensor
    scale: Tensor
    lowest: Tensor  # real levels are s times the integers from here
    highest: Tensor  # to here
    first: Tensor  # bins whose centre lies within the range: from here
    last: Tensor  # to before here

    @classmethod
    def of(cls, ranges: Ranges) -> "_Grid":
        found, scheme = ranges.qparams(), ranges.scheme
        lo, step = ranges.lo[:, None], width(ranges.lo, ranges.hi, BINS)[:, None]
        zero_point = found.zero_point.T.double()
        first = _first_not_below(ranges.ratio.T * lo, lo, step).clamp(0, BINS - 1)
        last = torch.floor((ranges.ratio.T * ranges.hi[:, None] - lo) / step + 0.5).clamp_max(BINS)
        return cls(
            lo, step, found.scale.T, scheme.quant_min - zero_point, scheme.quant_max - zero_point,
            first.long().contiguous(), torch.maximum(last, first + 1).long().contiguous(),
        )  # fmt: skip

    def __getitem__(self, rivals: slice) -> "_Grid":
        return _Grid(
            self.lo, self.width, self.scale[:, rivals], self.lowest[:, rivals], self.highest[:, rivals],
            self.first[:, rivals].contiguous(), self.last[:, rivals].contiguous(),
        )  # fmt: skip

    def level_at(self, bin_: Tensor) -> Tensor:
        """Eq. 1 of the bin's centre, less the zero point."""
        level = torch.round((self.lo + (bin_ + 0.5) * self.width) / self.scale)
        return torch.minimum(torch.maximum(level, self.lowest), self.highest)

    def first_of(self, level: Tensor) -> Tensor:
        """First bin of a level, within the range; the lowest and the one after the highest have its ends."""
        start = _first_not_below(self.scale * (level - 0.5), self.lo, self.width).long()
        start = torch.minimum(torch.maximum(start, self.first), self.last)
        return torch.where(level <= self.lowest, self.first, start.where(level <= self.highest, self.last))

    def edges(self) -> Tensor:
        """First bin of every level and the end of the last, ``[channels, rivals, levels + 1]``.

        Levels without a bin are empty intervals. When levels outnumber bins, the list has the first bin
        of each *bin's* level instead.
        """
        wide = _Grid(*(part[..., None] for part in vars(self).values()))
        levels = int(self.highest.flatten()[0] - self.lowest.flatten()[0]) + 1
        if levels <= BINS:
            level = self.lowest[..., None] + torch.arange(levels, device=self.lo.device)
        else:
            level = wide.level_at(torch.arange(BINS, device=self.lo.device))
        return torch.cat([wide.first_of(level), wide.last], dim=2)


def _first_not_below(x: Tensor, lo: Tensor, step: Tensor) -> Tensor:
    """First bin whose centre is at least x."""
    return torch.ceil((x - lo) / step - 0.5)


def _at(running: Tensor, index: Tensor) -> Tensor:
    return running.gather(1, index.flatten(1)).reshape(index.shape)


def _terms(share: Tensor, other: Tensor) -> Tensor:
    # each bin of Q may be raised to LEAST
    return torch.xlogy(share, share) - share * (other + BINS * LEAST).log()
