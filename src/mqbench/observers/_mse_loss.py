r"""Squared error of a quantized distribution, exactly, from a histogram, and bounded from below.

With the levels l_k = s (k - z) and the thresholds tau_k = s (k + 1/2 - z) between them, summing by
parts leaves one look-up a threshold instead of one term a value:

    loss = sum (x - l_max)^2 - 2 s sum_k G(tau_k),    G(t) = sum over x < t of (t - x).

A histogram gives G, with the density even within a cell. G is convex, so joining it linearly between
the edges of bins, where it is exact, bounds the loss from below; so does the error of clipping alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from mqbench.observers import _bins
from mqbench.observers._base import blocks
from mqbench.observers._histogram import Curve
from mqbench.observers._search import Ranges, portions

FEW_LEVELS = 64
BINS = 1024  # of the bounds: enough to leave few rivals
PIECE, LOOKUPS = 1 << 15, 1 << 17  # float64 values worked on at once


def loss_of_values(rows: Tensor, ranges: Ranges) -> Tensor:
    """Squared error of ``rows`` [channels, values], summed, ``[rivals, channels]``."""
    found, scheme = ranges.qparams(), ranges.scheme
    loss = torch.zeros_like(found.scale)
    for channel, piece in blocks(rows, PIECE):
        piece = piece.double()
        for some in portions(len(loss), piece.numel(), PIECE):
            scale, zero_point = found.scale[some, channel, None], found.zero_point[some, channel, None]
            # rounding before or after z differs at ties alone, where the error is the same
            place = torch.addcmul(zero_point.double(), piece, scale.reciprocal())
            error = place.clamp(scheme.quant_min, scheme.quant_max).round_().sub_(place)
            loss[some, channel] += torch.linalg.vecdot(error, error) * scale[..., 0].square()
    return loss


def loss_of_curve(curve: Curve, ranges: Ranges) -> Tensor:
    """Squared error of a histogram's values, summed, ``[rivals, channels]``."""
    return _by_parts(ranges, *curve.moments(), curve.deficit)


def bound_of_values(rows: Tensor, ranges: Ranges) -> Tensor:
    """A lower bound of `loss_of_values`: tight for few levels, else that of clipping."""
    if 1 << ranges.scheme.bits <= FEW_LEVELS:
        return _joined(rows, ranges)
    number = _bins.numbers(rows, ranges.lo, ranges.hi, BINS)
    return _clipping(number, ranges.lo, _bins.width(ranges.lo, ranges.hi, BINS), ranges)


def bound_of_curve(curve: Curve, ranges: Ranges) -> Tensor:
    """A lower bound of `loss_of_curve`: that of clipping."""
    width = curve.width[:, 0]
    return _clipping(curve.cells, -width * (curve.cells.shape[1] // 2), width, ranges)


def _by_parts(
    ranges: Ranges, number: Tensor, total: Tensor, square: Tensor, deficit: Callable[[Tensor], Tensor]
) -> Tensor:
    found, scheme = ranges.qparams(), ranges.scheme
    channels = len(ranges.lo)
    top = found.scale * (scheme.quant_max - found.zero_point)
    loss = (number * top - 2 * total) * top + square
    between = torch.arange(scheme.quant_min, scheme.quant_max, device=top.device).double() + 0.5
    for some in portions(len(loss), between.numel() * channels, LOOKUPS):
        scale, zero_point = found.scale[some].T[..., None], found.zero_point[some].T[..., None]
        threshold = scale * (between - zero_point)  # [channels, some, levels - 1]
        below = deficit(threshold.flatten(1)).reshape(threshold.shape).sum(dim=2)
        loss[some] -= 2 * found.scale[some] * below.T
    return loss


def _joined(rows: Tensor, ranges: Ranges) -> Tensor:
    lo, width = ranges.lo[:, None], _bins.width(ranges.lo, ranges.hi, BINS)[:, None]
    edge = lo + width * torch.arange(BINS + 1, device=lo.device)
    mass = pad(_bins.numbers(rows, ranges.lo, ranges.hi, BINS).cumsum(dim=1), (1, 0))
    total = pad(_bins.sums(rows, ranges.lo, ranges.hi, BINS).cumsum(dim=1), (1, 0))
    at_edge = edge.mul_(mass).sub_(total)

    def deficit(t: Tensor) -> Tensor:
        place = (t - lo) / width
        held = place.clamp(0, BINS)
        cell = held.long().clamp_max_(BINS - 1)
        joined = torch.lerp(at_edge.gather(1, cell), at_edge.gather(1, cell + 1), held.sub_(cell))
        return joined.addcmul_(place.sub_(BINS).clamp_min_(0), mass[:, -1:] * width)

    square = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()
    return _by_parts(ranges, mass[:, -1], total[:, -1], square, deficit)


def _clipping(number: Tensor, lo: Tensor, width: Tensor, ranges: Ranges) -> Tensor:
    found, scheme = ranges.qparams(), ranges.scheme
    top = found.scale * (scheme.quant_max - found.zero_point)
    bottom = found.scale * (scheme.quant_min - found.zero_point)
    mirrored = -(lo + width * number.shape[1])
    return _beyond(number, lo, width, top) + _beyond(number.flip(1), mirrored, width, -bottom)


def _beyond(number: Tensor, lo: Tensor, width: Tensor, limit: Tensor) -> Tensor:
    """Sum of (e - limit)^2 over the values, each at its bin's lower edge e, in the bins beyond ``limit``."""
    bins = number.shape[1]
    edge = lo[:, None] + width[:, None] * torch.arange(bins, device=lo.device)
    start = torch.ceil((limit - lo) / width).clamp(0, bins).long().T
    below = (pad(part.cumsum(dim=1), (1, 0)) for part in (number, number * edge, number * edge.square()))
    mass, first, square = ((part[:, -1:] - part.gather(1, start)).T for part in below)
    return ((mass * limit - 2 * first) * limit + square).clamp_min_(0)
