"""The integrals of a histogram's density, which is taken as even within a cell."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
        cell, part, _ = self._locate(t, self.width)
        return self.mass_at.gather(1, cell) + self.cells.gather(1, cell) * part

    def deficit(self, t: Tensor, channel: Tensor) -> Tensor:
        """Sum of (t - x) over the values x of ``channel`` [rows] below ``t`` [rows, points]."""
        width, zeros = self.width[channel], self.zeros[channel]
        cell, part, beyond = self._locate(t, width)
        row = channel[:, None] * self.mass_at.shape[1]
        mass, filled = self.mass_at.take(cell + row), self.cells.take(cell + channel[:, None] * self._size)
        inside = torch.addcmul(mass, filled, part, value=0.5).mul_(part)
        total = self.deficit_at.take(cell + row).addcmul_(inside, width)
        return total.addcmul_(self.mass_at[channel, -1:], beyond).addcmul_(zeros, t.clamp_min(0))

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Number, sum and sum of squares of the values, ``[channels]``."""
        size = self._size
        centre = torch.arange(0.5 - size // 2, size // 2, dtype=torch.float64, device=self.cells.device)
        centre = centre * self.width
        square = centre.square() + self.width.square() / 12
        number = self.mass_at[:, -1] + self.zeros[:, 0]
        return number, (self.cells * centre).sum(dim=1), (self.cells * square).sum(dim=1)

    @property
    def _size(self) -> int:
        return self.cells.shape[1]

    def _locate(self, t: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place = t / width + self._size // 2
        held = place.clamp(0, self._size)
        cell = held.long().clamp_max_(self._size - 1)
        return cell, held - cell, (place - self._size).clamp_min_(0).mul_(width)
