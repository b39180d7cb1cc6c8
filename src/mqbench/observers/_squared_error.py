r"""Squared error of quantization: of values exactly, of a histogram by parts.

With the levels l_k = s (k - z) and the thresholds tau_k = s (k + 1/2 - z) between them, summing by
parts leaves one look-up a threshold instead of one term a value:

    loss = sum (x - l_max)^2 - 2 s sum_k G(tau_k),    G(t) = sum over x < t of (t - x).

A histogram gives G, with the density even within a cell.
"""

import torch
from torch import Tensor

from mqbench.observers._binning import rounding_error
from mqbench.observers._curve import Curve
from mqbench.observers._search import COUNT, Candidates, Loss, portions

PIECE, LOOKUPS = 1 << 16, 1 << 16  # numbers worked on at once
FLOAT32_BITS = 8  # up to here a float32 tells x/s to a ten-thousandth


def loss_of_values(rows: Tensor, candidates: Candidates) -> Loss:
    """The squared error of ``rows`` [channels, values], summed."""
    scheme, found = candidates.scheme, candidates.qparams
    exact = scheme.bits > FLOAT32_BITS

    def loss(pairs: Tensor) -> Tensor:
        channel, scale = pairs // COUNT, found.scale.take(pairs)
        grid = scheme.quant_min, scheme.quant_max
        at_once = rounding_error(rows, channel, scale, found.zero_point.take(pairs), grid, exact)
        if at_once is not None:
            return at_once * scale.square()
        wide = rows.double() if exact else rows
        per_scale, zero_point = (
            part[:, None].to(wide.dtype) for part in (1 / scale, found.zero_point.take(pairs))
        )
        error = torch.zeros_like(scale)
        for values in wide.split(PIECE, dim=1):
            for some in portions(len(pairs), values.shape[1], PIECE):
                place = values.index_select(0, channel[some]).mul_(per_scale[some])
                if not scheme.symmetric:  # rounding before or after z differs at ties alone: the same error
                    place.add_(zero_point[some])
                rounded = place.clamp(scheme.quant_min, scheme.quant_max).round_().sub_(place)
                error[some] += torch.linalg.vector_norm(rounded, dim=1).double().square_()
        return error * scale.square()

    return loss


def loss_of_curve(curve: Curve, candidates: Candidates) -> Loss:
    """The squared error of a histogram's values, summed."""
    scheme, found = candidates.scheme, candidates.qparams
    number, total, square = curve.moments()
    between = torch.arange(scheme.quant_min, scheme.quant_max, device=number.device).double() + 0.5

    def loss(pairs: Tensor) -> Tensor:
        channel, scale, zero_point = pairs // COUNT, found.scale.take(pairs), found.zero_point.take(pairs)
        top = scale * (scheme.quant_max - zero_point)
        error = (number[channel] * top - 2 * total[channel]) * top + square[channel]
        for some in portions(len(pairs), len(between), LOOKUPS):
            threshold = scale[some, None] * (between - zero_point[some, None])
            error[some] -= 2 * scale[some] * curve.deficit(threshold, channel[some]).sum(dim=1)
        return error

    return loss
