r"""Lower bounds of the squared error, from few even bins of each channel.

In the unit of the widest range's scale, with the zero point z added, the levels of range r lie at z + r (k - z):
they do not depend on the channel but for z. So is the error of a bin a fixed linear function of the number n of its
values and of the sum d of their distances from its centre, and that of all bins, for all ranges and channels,
one matrix product. Only a bin that a threshold cuts is inexact: of its values below the threshold tau,
G = sum (tau - x) is needed, which is convex in tau; joined linearly between the bin's edges, where it
is exact, it is too large and the error too small.

Many levels would need many bins. Then the error of clipping alone is the bound.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from mqbench.observers._binning import spread_in_bins
from mqbench.observers._curve import Curve
from mqbench.observers._search import Candidates
from mqbench.observers._statistic import blocks

FEW_LEVELS = 64
BINS, CLIPPING_BINS = 512, 256
ROUNDING = 1e-5  # of a float32 sum, in squared bins for each value
LEAST_SPAN = 2.0**-90  # of a channel of zeros; a bin of it still has a float32 reciprocal


def bound_of_values(rows: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """A lower bound of the squared error of ``rows`` and a guess at it, ``[channels, 95]`` both."""
    scheme, scale = candidates.scheme, candidates.qparams.scale
    regular = not scheme.power_of_two and (scheme.signed or not scheme.symmetric)
    if regular and 1 << scheme.bits <= FEW_LEVELS:
        bound = guess = _joined(rows, candidates)
    else:
        width = (candidates.hi - candidates.lo).clamp_min(LEAST_SPAN) / CLIPPING_BINS
        bound = clipping(_numbers(rows, candidates.lo, width), candidates.lo, width, candidates)
        guess = bound + scale.square() * (rows.shape[1] / 12)
    repeated = _repeated(candidates)
    return bound.masked_fill(repeated, torch.inf), guess.masked_fill(repeated, torch.inf)


def bound_of_curve(curve: Curve, candidates: Candidates) -> Tensor:
    """A lower bound of the squared error of a histogram: that of clipping."""
    width = curve.width[:, 0]
    bound = clipping(curve.cells, -width * (curve.cells.shape[1] // 2), width, candidates)
    return bound.masked_fill_(_repeated(candidates), torch.inf)


def clipping(number: Tensor, lo: Tensor, width: Tensor, candidates: Candidates) -> Tensor:
    """The error of values beyond the levels, ``number`` [channels, bins] of them from ``lo`` on."""
    scheme, found = candidates.scheme, candidates.qparams
    top = found.scale * (scheme.quant_max - found.zero_point)
    bottom = found.scale * (scheme.quant_min - found.zero_point)
    mirrored = -(lo + width * number.shape[1])
    return _beyond(number, lo, width, top) + _beyond(number.flip(1), mirrored, width, -bottom)


def _beyond(number: Tensor, lo: Tensor, width: Tensor, limit: Tensor) -> Tensor:
    """Sum of (e - limit)^2 over the values, each at its bin's lower edge e, in the bins beyond ``limit``."""
    bins = number.shape[1]
    edge = lo[:, None] + width[:, None] * torch.arange(bins, device=lo.device)
    start = ((limit - lo[:, None]) / width[:, None]).ceil_().clamp_(0, bins).long()
    below = (pad(part.cumsum(dim=1), (1, 0)) for part in (number, number * edge, number * edge.square()))
    mass, first, square = (part[:, -1:] - part.gather(1, start) for part in below)
    return ((mass * limit - 2 * first) * limit + square).clamp_min_(0)


def _repeated(candidates: Candidates) -> Tensor:
    """Candidates that are the same quantizer as the one before, ``[channels, 95]``."""
    scale, zero_point = candidates.qparams.scale, candidates.qparams.zero_point
    same = (scale[:, 1:] == scale[:, :-1]) & (zero_point[:, 1:] == zero_point[:, :-1])
    return pad(same, (1, 0))


def _numbers(rows: Tensor, lo: Tensor, width: Tensor) -> Tensor:
    """How many values fall in each bin, float64 ``[channels, bins]``."""
    per_width = width.reciprocal()[:, None].to(rows.dtype)
    offset = (-lo / width)[:, None].to(rows.dtype)
    found = torch.zeros(len(rows), CLIPPING_BINS, dtype=torch.float64, device=rows.device)
    for channels, pieces in blocks(rows):
        for piece in pieces:
            place = (piece * per_width[channels]).add_(offset[channels])
            cell = place.to(torch.int32).clamp_(0, CLIPPING_BINS - 1)
            found[channels] += _tally(cell, CLIPPING_BINS)
    return found


def _joined(rows: Tensor, candidates: Candidates) -> Tensor:
    found, scheme = candidates.qparams, candidates.scheme
    levels = 1 << scheme.bits
    unit, zero = found.scale[:, 0], found.zero_point[:, 0] - scheme.quant_min
    features, spread = _spread(rows, BINS / levels / unit, (zero + 0.5) * (BINS / levels))
    error = torch.empty_like(found.scale)
    for one in zero.unique().tolist():
        same = zero == one
        error[same] = (features[same] @ _coefficients(levels, int(one)).to(features)).double()
    known = spread - ROUNDING * rows.shape[1]
    error.add_((known * (levels / BINS) ** 2)[:, None]).mul_(unit.square()[:, None])
    # a scale at its floor, or a zero point that is a tie, is not what the coefficients are for
    usual = (found.scale / unit[:, None] - candidates.ratio).abs() < 1e-9
    return error.where(usual & (found.zero_point == found.zero_point[:, :1]), 0).clamp_min_(0)


def _spread(rows: Tensor, per_bin: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers and sums of distances, ``[channels, 2 BINS]``, and the sum of their squares, in bins."""
    at_once = spread_in_bins(rows, per_bin, offset, BINS)
    if at_once is not None:
        return at_once
    per_bin, offset = per_bin[:, None].to(rows.dtype), offset[:, None].to(rows.dtype)
    features = torch.zeros(len(rows), 2 * BINS, device=rows.device)
    spread = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for channels, pieces in blocks(rows):
        for piece in pieces:
            place = (piece * per_bin[channels]).add_(offset[channels]).clamp_(0, BINS - 1e-4)
            cell = place.to(torch.int32)
            distance = place.frac_().sub_(0.5)
            spread[channels] += torch.linalg.vector_norm(distance, dim=1).double().square_()
            features[channels, :BINS] += _tally(cell, BINS)
            features[channels, BINS:] += _tally(cell, BINS, distance)
    return features, spread


@lru_cache(maxsize=64)
def _coefficients(levels: int, zero: int) -> Tensor:
    """What the error is in the bins' numbers and in their sums of distances, ``[2 BINS, 95]``."""
    bin_ = levels / BINS
    ratio = (1 - 0.01 * torch.arange(95, dtype=torch.float64))[:, None]
    edge = torch.arange(1, BINS + 1, dtype=torch.float64) * bin_ - 0.5  # the upper one
    level = torch.round((edge - zero) / ratio).clamp(-zero, levels - 1 - zero)
    threshold = zero + ratio * (level - 0.5)
    cut = ((threshold - edge) / bin_ + 1).clamp(0, 1).where(level > -zero, 0)
    error = edge - bin_ / 2 - (zero + ratio * level)
    number = error.square() - ratio * cut * bin_
    distance = (error + ratio * cut) * (2 * bin_)
    # two thresholds in a bin: nothing is known but that the error is not negative
    crowded = ratio < bin_
    number, distance = number.where(~crowded, -(bin_**2) / 4), distance.where(~crowded, 0)
    return torch.cat([number, distance], dim=1).T.float().contiguous()


def _tally(cell: Tensor, size: int, weights: Tensor | None = None) -> Tensor:
    """Numbers, or sums of ``weights``, in each cell of each row."""
    height = len(cell)
    if height > 1:
        cell = cell + torch.arange(0, height * size, size, dtype=cell.dtype, device=cell.device)[:, None]
    weights = None if weights is None else weights.flatten()
    return torch.bincount(cell.flatten(), weights, minlength=height * size).reshape(height, size)
