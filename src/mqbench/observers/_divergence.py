"""Divergence of a 2048-bin histogram from its quantized self, by look-ups of running sums.

With n values in a bin, M in a level and F filled bins in it, and P and Q as in `kld`, all but the two
outermost levels contribute sum n ln n - sum M ln(M/F), which is never negative. The rest costs a few look-ups for
each candidate and is a lower bound; the levels between cost one look-up each.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mqbench.observers._binning import number_in_bins
from mqbench.observers._search import COUNT, Candidates, portions
from mqbench.observers._statistic import blocks

BINS = 2048
LEAST = 1e-12
LEAST_SPAN = 2.0**-500  # of a channel of zeros
LOOKUPS = 1 << 16
SHIFT, FILLED = 12, (1 << 12) - 1  # the running sums of values and of filled bins share an integer


class Divergence:
    """The divergence of every candidate.

    Args:
        counts: values in each bin over the widest range, as `counts_of` gives them.
        candidates: the ranges.
    """

    def __init__(self, counts: Tensor, candidates: Candidates) -> None:
        scheme, found = candidates.scheme, candidates.qparams
        self._lo, self._width, self._scale = (
            candidates.lo[:, None],
            width_of(candidates)[:, None],
            found.scale,
        )
        self._counts, self._levels = counts, 1 << scheme.bits
        small = torch.int32 if counts.dtype == torch.int32 else torch.int64
        self._running = counts.clamp(0, 1).add_(counts, alpha=1 << SHIFT).cumsum(dim=1, dtype=small)
        self._total = (self._running[:, -1:] >> SHIFT).double()
        self._entropy = _x_log_x_of(counts).cumsum(dim=1)
        self._lowest, self._highest = (end - found.zero_point for end in (scheme.quant_min, scheme.quant_max))
        first = self._bin_of(self._lo * candidates.ratio).ceil_().clamp_(0, BINS - 1)
        last = self._bin_of(candidates.hi[:, None] * candidates.ratio).floor_().add_(1).clamp_max_(BINS)
        last = torch.maximum(last, first + 1)
        start = self._end_of(self._level_at(first), first, last)
        end = torch.maximum(self._end_of(self._level_at(last - 1) - 1, first, last), start)
        # bins in the range, and of them those of the levels between the outermost two
        self._first, self._last, self._start, self._end = (at.long() for at in (first, last, start, end))

    def outer(self) -> Tensor:
        """The divergence without what the levels between add to it, ``[channels, 95]``."""
        edges = torch.cat([self._first, self._start, self._end, self._last], dim=1)
        held = self._running.gather(1, edges)
        mass, filled = (held >> SHIFT).double(), held & FILLED
        below, to_start, to_end, to_last = mass.chunk(4, dim=1)
        entropy = self._entropy.gather(1, edges).chunk(4, dim=1)
        divergence = entropy[1] - entropy[0] + entropy[3] - entropy[2]
        inside, above = to_last - below, self._total - to_last
        normal = inside.clamp_min(LEAST)
        fresh = []  # an edge bin without a value of its own is filled by what lies outside
        for edge, outside in ((self._first + 1, below), (self._last, above)):
            own = self._counts.gather(1, edge).double()
            divergence += _x_log_x(own + outside) - _x_log_x(own)
            fresh.append((own == 0) & (outside > 0))
        divergence += (to_end - to_start) * normal.log()
        single = self._start == self._last  # one level holds everything, and both edges
        at_first, at_start, at_end, at_last = filled.chunk(4, dim=1)
        lower = to_start - below, at_start - at_first + fresh[0] + (single & fresh[1]), below + single * above
        upper = to_last - to_end, at_last - at_end + fresh[1], above * ~single
        for own, bins, outside in (lower, upper):
            divergence -= (own + outside) * (own / bins.clamp_min(1) / normal).clamp_min_(LEAST).log_()
        total = self._total.clamp_min(1)
        divergence = divergence / total - total.log()
        # without a value all are 0, and none is better than the widest
        divergence[:, 1:].masked_fill_(self._total == 0, torch.inf)
        return divergence

    def between(self, pairs: Tensor, dtype: torch.dtype) -> Tensor:
        """What the levels between add to the divergence of some pairs of channel and candidate, ``[pairs]``."""
        row = pairs // COUNT * (BINS + 1)
        start, end = row + self._start.take(pairs), row + self._end.take(pairs)
        bounds = start.int()[:, None], end.int()[:, None]
        running, entropy = self._running.view(-1), self._entropy.view(-1)
        places = self._edges(pairs, row)
        even = torch.empty(len(pairs), dtype=torch.float64, device=pairs.device)
        for some in portions(len(pairs), min(self._levels, BINS), LOOKUPS):
            edges = places(some).to(torch.int32).clamp_(bounds[0][some], bounds[1][some])
            held = running.index_select(0, edges.view(-1)).view(edges.shape).diff(dim=1)
            mass, filled = (held >> SHIFT).to(dtype), (held & FILLED).clamp_min_(1).to(dtype)
            even[some] = torch.linalg.vecdot(mass, (mass / filled).clamp_min_(LEAST).log_())
        total = self._total.expand_as(self._scale).take(pairs)
        return (entropy.take(end) - entropy.take(start) - even) / total.clamp_min(1)

    def _edges(self, pairs: Tensor, row: Tensor) -> Callable[[slice], Tensor]:
        """Where levels begin in the running sums, for some of ``pairs``: float64 ``[some, edges]``, to be cut.

        Levels without a bin are empty intervals. When levels outnumber bins, the list has the first bin of each
        *bin's* level instead.
        """
        parts = self._scale, self._lowest, self._lo, self._width
        scale, lowest, lo, width = (part.expand_as(self._scale).take(pairs)[:, None] for part in parts)
        per_level = (scale / width).clamp_max_(8 * BINS)  # bins; more would not fit in an int32
        origin = row[:, None] + 0.5 - lo / width
        if self._levels <= BINS:
            origin += (lowest + 0.5) * per_level
            step = torch.arange(self._levels - 1, dtype=torch.float64, device=lo.device)
            return lambda some: (per_level[some] * step).add_(origin[some])
        centre = torch.arange(0.5, BINS, dtype=torch.float64, device=lo.device)
        return lambda some: (
            (centre * width[some]).add_(lo[some]).div_(scale[some]).round_().sub_(0.5)
            .mul_(per_level[some]).add_(origin[some])
        )  # fmt: skip

    def _bin_of(self, x: Tensor) -> Tensor:
        """The place of x among the centres of the bins."""
        return (x - self._lo) / self._width - 0.5

    def _level_at(self, bin_: Tensor) -> Tensor:
        """Eq. 1 of the bin's centre, less the zero point."""
        level = torch.round((self._lo + (bin_ + 0.5) * self._width) / self._scale)
        return level.clamp_(self._lowest, self._highest)

    def _end_of(self, level: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """The bin after the level's last, within the range."""
        end = self._bin_of(self._scale * (level + 0.5)).floor_().add_(1)
        return end.where(level < self._highest, last).clamp_(first, last)


def width_of(candidates: Candidates) -> Tensor:
    """Width of a bin, never 0, float64 ``[channels]``."""
    return (candidates.hi - candidates.lo).clamp_min(LEAST_SPAN) / BINS


def counts_of(rows: Tensor, candidates: Candidates) -> Tensor:
    """How many values other than 0 fall in each bin, ``[channels, 2049]`` with a 0 first.

    The integers are int32 if sums of them, times 2^12, are.
    """
    per_width = width_of(candidates).reciprocal()
    offset = 1 - candidates.lo * per_width
    size = BINS + 1
    dtype = torch.int32 if rows.shape[1] < 1 << (30 - SHIFT) else torch.int64
    at_once = number_in_bins(rows, per_width, offset, BINS)
    if at_once is not None:
        return at_once.to(dtype)
    per_width, offset = per_width[:, None], offset[:, None]
    found = torch.zeros(len(rows), size, dtype=dtype, device=rows.device)
    for channels, pieces in blocks(rows):
        for piece in pieces:
            place = (piece.double() * per_width[channels]).add_(offset[channels])
            cell = place.to(torch.int32).clamp_(1, BINS)
            if float(piece.abs().amin()) == 0:
                cell.masked_fill_(piece == 0, 0)
            height = len(piece)
            cell += torch.arange(0, height * size, size, dtype=torch.int32, device=cell.device)[:, None]
            tally = torch.bincount(cell.flatten(), minlength=height * size).view(height, size)
            found[channels] += tally.to(dtype)
    found[:, 0] = 0
    return found


def _x_log_x(x: Tensor) -> Tensor:
    return x * x.clamp_min(LEAST).log()  # xlogy takes ten times as long


def _x_log_x_of(counts: Tensor) -> Tensor:
    """n ln n for integers, float64."""
    most = int(counts.max())
    if most >= BINS:
        return _x_log_x(counts.double())
    table = _x_log_x(torch.arange(most + 1, dtype=torch.float64, device=counts.device))
    return table.index_select(0, counts.flatten()).reshape(counts.shape)
