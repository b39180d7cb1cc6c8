"""A histogram whose range need not be known before the data is.

The cells of a channel are w = 2R/B wide and R is the smallest power of two that no magnitude exceeds.
Cell j = sign(x) ceil(|x|/w), so 0 holds exact zeros alone and nothing else does. Both w and x/w are
exact, and doubling R sends j to sign(j) ceil(|j|/2): cells merge without error, and the result is that
of the concatenated data to the last count, whatever the order.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mqbench.observers._base import blocks

MAX_CELLS, MIN_CELLS, ALL_CELLS = 1 << 15, 1 << 12, 1 << 24
MIN_EXPONENT = -64  # far below the floor of the scale; keeps 1/w a float32


@dataclass(eq=False)
class Histogram:
    """Counts of ``[channels, B + 1]`` cells, cell 0 in the middle, and the exponents of R."""

    counts: Tensor
    exponent: Tensor

    @classmethod
    def empty(cls, channels: int, device: torch.device) -> "Histogram":
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

    @property
    def width(self) -> Tensor:
        """Width of a channel's cells, float64 ``[channels]``."""
        return torch.exp2(self.exponent.double()) / self.half

    def add(self, rows: Tensor, magnitude: Tensor) -> None:
        """Count ``rows`` [channels, values], none larger than ``magnitude`` [channels]."""
        self._grow(magnitude)
        per_width = self.width.reciprocal().to(rows.dtype)[:, None]
        size = self.counts.shape[1]
        for channel, piece in blocks(rows):
            cell = piece * per_width[channel]
            cell = cell.abs().ceil_().copysign_(cell).to(torch.int32).add_(self.half)
            height = len(piece)
            if height > 1:
                cell += torch.arange(0, height * size, size, dtype=torch.int32, device=cell.device)[:, None]
            found = torch.bincount(cell.flatten(), minlength=height * size)
            self.counts[channel] += found.reshape(height, size)

    def _grow(self, magnitude: Tensor) -> None:
        fraction, exponent = torch.frexp(magnitude.double())
        exponent = torch.where(fraction == 0.5, exponent - 1, exponent)  # 2^k itself still fits in R = 2^k
        doublings = (exponent - self.exponent).clamp_min(0)
        if not bool(doublings.any()):
            return
        cell = torch.arange(-self.half, self.half + 1, device=self.counts.device)
        factor = torch.exp2(-doublings.clamp_max(62).double())[:, None]
        merged = (cell.abs() * factor).ceil().copysign(cell.double()).long() + self.half
        self.counts = torch.zeros_like(self.counts).scatter_add_(1, merged, self.counts)
        self.exponent = self.exponent + doublings

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


@dataclass(frozen=True, eq=False)
class Curve:
    """Integrals of a histogram's density at the edges of its cells, ``[channels, B + 1]``."""

    width: Tensor
    cells: Tensor
    mass_at: Tensor
    deficit_at: Tensor
    zeros: Tensor

    def mass(self, t: Tensor) -> Tensor:
        """Number of values below ``t`` [channels, points], exact zeros left out."""
        cell, part, _ = self._locate(t)
        return self.mass_at.gather(1, cell) + self.cells.gather(1, cell) * part

    def deficit(self, t: Tensor) -> Tensor:
        """Sum of (t - x) over the values x below ``t`` [channels, points]."""
        cell, part, beyond = self._locate(t)
        inside = self.mass_at.gather(1, cell) * part + self.cells.gather(1, cell) * part.square() / 2
        total = self.deficit_at.gather(1, cell) + inside * self.width
        return total + self.mass_at[:, -1:] * beyond + self.zeros * t.clamp_min(0)

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Number, sum and sum of squares of the values, ``[channels]``."""
        size = self.cells.shape[1]
        centre = torch.arange(0.5 - size // 2, size // 2, dtype=torch.float64, device=self.cells.device)
        centre = centre * self.width
        square = centre.square() + self.width.square() / 12
        number = self.mass_at[:, -1] + self.zeros[:, 0]
        return number, (self.cells * centre).sum(dim=1), (self.cells * square).sum(dim=1)

    def _locate(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = self.cells.shape[1]
        place = t / self.width + size // 2
        held = place.clamp(0, size)
        cell = held.long().clamp_max_(size - 1)
        return cell, held - cell, (place - size).clamp_min(0) * self.width


def cells_for(channels: int) -> int:
    """Cells of one channel: a power of two."""
    share = max(ALL_CELLS // channels, 1)
    return min(max(1 << (share.bit_length() - 1), MIN_CELLS), MAX_CELLS)
