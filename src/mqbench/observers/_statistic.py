"""What a calibration method keeps of the data: one pass, piece by piece, and merged over batches."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mqbench.observers._moments import Kind, summarise

BLOCK = 1 << 16  # values that a CPU works on at once: they and two or three temporaries stay in the cache

LARGE = 1e15  # the square of 2^16 times as much is still a float32


@dataclass(frozen=True, eq=False)
class Piece:
    """Some values of some channels.

    Attributes:
        channels: which rows of the batch.
        values: ``[channels, values]``, float32 or float64, all finite.
        lo, hi: smallest and largest of each channel, ``[channels]``.
        low, high: smallest and largest of all.
    """

    channels: slice
    values: Tensor
    lo: Tensor
    hi: Tensor
    low: float
    high: float

    @property
    def magnitude(self) -> float:
        """Largest magnitude of all."""
        return max(-self.low, self.high)

    def summable(self) -> Tensor:
        """The values in a type that holds the sum of their squares."""
        return self.values if self.magnitude < LARGE else self.values.double()


class Statistic(ABC):
    """What is kept of one batch; that of two batches merges into that of both together."""

    @abstractmethod
    def add(self, piece: Piece) -> None:
        """Take in one piece of the batch; every value of the batch comes once."""

    def add_all(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Take in a whole batch at once, if there is a faster way; smallest and largest of each row."""
        return None

    @abstractmethod
    def merge(self, later: Self) -> None:
        """Take in the statistic of another batch."""


def blocks(rows: Tensor, size: int | None = None) -> Iterator[tuple[slice, list[Tensor]]]:
    """Cut ``rows`` into groups of channels, and these into pieces of at most ``size`` values."""
    if size is None:
        size = BLOCK if rows.device.type == "cpu" else BLOCK << 8
    channels, values = rows.shape
    height = max(1, size // values)
    for start in range(0, channels, height):
        some = slice(start, min(start + height, channels))
        yield some, list(rows[some].split(size, dim=1))


def range_of(rows: Tensor) -> tuple[Tensor, Tensor] | None:
    """Smallest and largest of each row by a compiled pass, NaN if one is not finite; None without such a pass."""
    found = summarise(rows, Kind.RANGE)
    return None if found is None else (found.lo, found.hi)


def scan(rows: Tensor, statistic: Statistic | None) -> tuple[Tensor, Tensor] | None:
    """Show every value to ``statistic``; smallest and largest of each row, or None if one is not finite."""
    at_once = range_of(rows) if statistic is None else statistic.add_all(rows)
    if at_once is not None:
        return at_once if all(bool(end.isfinite().all()) for end in at_once) else None
    ranges = []
    for channels, pieces in blocks(rows):
        ends = []
        for values in pieces:
            lo, hi = values.amin(dim=1), values.amax(dim=1)
            least, most = lo.tolist(), hi.tolist()
            if not all(map(math.isfinite, least + most)):
                return None
            if statistic is not None:
                statistic.add(Piece(channels, values, lo, hi, min(least), max(most)))
            ends.append((lo, hi))
        lows, highs = zip(*ends, strict=True)
        ranges.append((torch.stack(lows).amin(dim=0), torch.stack(highs).amax(dim=0)))
    los, his = zip(*ranges, strict=True)
    return torch.cat(los), torch.cat(his)
