"""Values counted in even bins on a known range."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mqbench.observers._base import blocks

LEAST_SPAN = 2.0**-500  # of a channel of zeros


def width(lo: Tensor, hi: Tensor, bins: int) -> Tensor:
    """Width of a bin, never 0."""
    return (hi - lo).clamp_min(LEAST_SPAN) / bins


def numbers(rows: Tensor, lo: Tensor, hi: Tensor, bins: int) -> Tensor:
    """How many values fall in each bin, float64 ``[channels, bins]``."""
    found = _empty(rows, bins)
    for channel, _, place in _placed(rows, lo, hi, bins):
        found[channel] += _tally(place, bins)
    return found


def nonzeros(rows: Tensor, lo: Tensor, hi: Tensor, bins: int) -> Tensor:
    """How many values other than 0 fall in each bin, float64 ``[channels, bins]``."""
    found = _empty(rows, bins)
    for channel, piece, place in _placed(rows, lo, hi, bins):
        place.masked_fill_(piece == 0, bins)
        found[channel] += _tally(place, bins + 1)[:, :bins]
    return found


def sums(rows: Tensor, lo: Tensor, hi: Tensor, bins: int) -> Tensor:
    """The sum of the values in each bin, float64 ``[channels, bins]``."""
    found = _empty(rows, bins)
    for channel, piece, place in _placed(rows, lo, hi, bins):
        found[channel] += _tally(place, bins, piece)
    return found


def _empty(rows: Tensor, bins: int) -> Tensor:
    return torch.zeros(len(rows), bins, dtype=torch.float64, device=rows.device)


def _placed(rows: Tensor, lo: Tensor, hi: Tensor, bins: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    per_width = width(lo, hi, bins).reciprocal()
    for channel, piece in blocks(rows):
        piece = piece.double()
        place = (piece - lo[channel, None]).mul_(per_width[channel, None])
        yield channel, piece, place.clamp_(0, bins - 1).to(torch.int32)  # truncation floors what is positive


def _tally(place: Tensor, size: int, weights: Tensor | None = None) -> Tensor:
    height = len(place)
    if height > 1:
        step = torch.arange(0, height * size, size, dtype=place.dtype, device=place.device)
        place = place + step[:, None]
    weights = None if weights is None else weights.flatten()
    return torch.bincount(place.flatten(), weights, minlength=height * size).reshape(height, size)
