"""A histogram whose range need not be known before the data is.

The cells of a channel are w = 2R/B wide and R is the smallest power of two that no magnitude exceeds.
Cell j = sign(x) ceil(|x|/w), so 0 holds exact zeros alone and nothing else does. Both w and x/w are
exact, and doubling R sends j to sign(j) ceil(|j|/2): cells merge without error, and the result is that
of the concatenated data to the last count, whatever the order.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mqbench.observers._counting import count as counted
from mqbench.observers._curve import Curve
from mqbench.observers._statistic import Piece, Statistic

MAX_CELLS, MIN_CELLS, ALL_CELLS = 1 << 14, 1 << 12, 1 << 24
MIN_EXPONENT = -64  # far below the floor of the scale; keeps 1/w a float32


@dataclass(eq=False)
class Histogram(Statistic):
    """Counts of ``[channels, B + 1]`` cells, cell 0 in the middle, and the exponents of R."""

    counts: Tensor
    exponent: Tensor

    def __post_init__(self) -> None:
        self._follow_range()

    @classmethod
    def empty(cls, channels: int, device: torch.device) -> Self:
        """A histogram of no data; its cells become fewer with many channels."""
        counts = torch.zeros(channels, cells_for(channels) + 1, dtype=torch.int64, device=device)
        exponent = torch.full((channels,), MIN_EXPONENT, dtype=torch.int64, device=device)
        return cls(counts, exponent)

    def __getitem__(self, channels: slice) -> "Histogram":
        return Histogram(self.counts[channels], self.exponent[channels])

    @property
    def half(self) -> int:
        """Cells on either side of zero."""
        return self.counts.shape[1] // 2

    def add(self, piece: Piece) -> None:
        """Count the values of a piece."""
        if piece.magnitude > self._least_reach:
            self._grow(piece.channels, _exponent(torch.maximum(-piece.lo, piece.hi)))
        values, height = piece.values, len(piece.values)
        cell = values * self._per_width[piece.channels].to(values.dtype)
        first, size = (self.half, self.half + 1) if piece.low >= 0 else (0, self.counts.shape[1])
        if first:  # nothing below zero, as behind a ReLU
            cell = cell.ceil_().to(torch.int32)
        else:
            cell = cell.abs().ceil_().copysign_(cell).to(torch.int32).add_(self.half)
        if height > 1:
            cell += torch.arange(0, height * size, size, dtype=torch.int32, device=cell.device)[:, None]
        found = torch.bincount(cell.flatten(), minlength=height * size)
        self.counts[piece.channels, first:] += found.reshape(height, size)

    def add_all(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Count a single row by the compiled pass, if there is one."""
        found = counted(rows, self.half, MIN_EXPONENT) if len(rows) == 1 else None
        if found is None:
            return None
        counts, exponent, ends = found
        if not bool(ends.isnan().any()):
            self.merge(Histogram(counts[None], exponent[None].long()))
        return ends[:1], ends[1:]

    def merge(self, later: "Histogram") -> None:
        """Add up two histograms; ``later`` may change its range."""
        everything = slice(None)
        self._grow(everything, later.exponent)
        later._grow(everything, self.exponent)
        self.counts += later.counts

    def _grow(self, channels: slice, exponent: Tensor) -> None:
        """Double R until it is at least 2^exponent."""
        doublings = (exponent - self.exponent[channels]).clamp_min(0)
        if not bool(doublings.any()):
            return
        cell = torch.arange(-self.half, self.half + 1, device=self.counts.device)
        factor = torch.exp2(-doublings.clamp_max(62).double())[:, None]
        merged = (cell.abs() * factor).ceil().copysign(cell.double()).long() + self.half
        counts = self.counts[channels]
        self.counts[channels] = torch.zeros_like(counts).scatter_add_(1, merged, counts)
        self.exponent[channels] += doublings
        self._follow_range()

    def _follow_range(self) -> None:
        reach = torch.exp2(self.exponent.double())
        self.width = reach / self.half
        """Width of a channel's cells, float64 ``[channels]``."""
        self._per_width = self.width.reciprocal()[:, None]
        self._least_reach = float(reach.min())

    def ranked(self, rank: int) -> Tensor:
        """The value of the given rank (0 is the smallest) in each channel, within a cell."""
        total = self.counts.cumsum(dim=1)
        asked = torch.full_like(total[:, :1], rank)
        at = torch.searchsorted(total, asked, right=True)
        inside = self.counts.gather(1, at)
        share = (asked - total.gather(1, at) + inside + 0.5) / inside
        cell = (at - self.half).double()
        value = torch.where(cell < 0, cell + share, torch.where(cell > 0, cell - 1 + share, cell))
        return value[:, 0] * self.width

    def curve(self) -> "Curve":
        """The integrals of the density, which is taken as even within a cell."""
        cells = torch.cat([self.counts[:, : self.half], self.counts[:, self.half + 1 :]], dim=1).double()
        mass = torch.nn.functional.pad(cells.cumsum(dim=1), (1, 0))
        trapezoid = (mass[:, :-1] + mass[:, 1:]) * (self.width[:, None] / 2)
        deficit = torch.nn.functional.pad(trapezoid.cumsum(dim=1), (1, 0))
        zeros = self.counts[:, self.half, None].double()
        return Curve(self.width[:, None], cells, mass, deficit, zeros)


def cells_for(channels: int) -> int:
    """Cells of one channel: a power of two."""
    share = max(ALL_CELLS // channels, 1)
    return min(max(1 << (share.bit_length() - 1), MIN_CELLS), MAX_CELLS)


def _exponent(magnitude: Tensor) -> Tensor:
    """The least k with 2^k no smaller than the magnitude."""
    fraction, exponent = torch.frexp(magnitude.double())
    return torch.where(fraction == 0.5, exponent - 1, exponent)  # 2^k itself still fits in R = 2^k
