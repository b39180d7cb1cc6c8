"""gemmlowp's requantization, which TensorFlow Lite's reference kernels have: two roundings.

The high half of a doubled 64-bit product is rounded half up, then a shift rounds half away from zero; together
they may be three quarters of a step away, as 1/4 becomes 1/2, 1/2 becomes 1.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 2.2 and appendix A.2; TensorFlow Lite's 8-bit quantization specification.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_BITS = 31
_ADD_SHIFT = 20  # of the terms of an add, before they are scaled


def multiplier_of(real: Tensor) -> tuple[Tensor, Tensor]:
    """m0 in [2^30, 2^31) and the exponent e with M = m0 2^(e - 31), of positive float64 multipliers."""
    fraction, exponent = torch.frexp(real.double())
    mantissa = torch.floor(fraction * 2.0**_BITS + 0.5).long()
    carried = mantissa == 2**_BITS
    return torch.where(carried, mantissa // 2, mantissa), exponent.long() + carried.long()


def scaled(value: Tensor, real: Tensor) -> Tensor:
    """value M of int64 integers within int32: the high half of a doubled 64-bit product, then a rounding shift."""
    return _scaled(value, *multiplier_of(real))


def _scaled(value: Tensor, mantissa: Tensor, exponent: Tensor) -> Tensor:
    product = (value << exponent.clamp_min(0)) * mantissa
    nudge = torch.where(product >= 0, 2 ** (_BITS - 1), 1 - 2 ** (_BITS - 1))
    high = torch.div(product + nudge, 2**_BITS, rounding_mode="trunc")
    return _shifted(high, (-exponent).clamp(0, _BITS))


def _shifted(value: Tensor, shift: Tensor) -> Tensor:
    """value 2^-shift, half away from zero."""
    half = torch.where(shift > 0, torch.ones_like(shift) << (shift - 1).clamp_min(0), torch.zeros_like(shift))
    return torch.sign(value) * ((value.abs() + half) >> shift)


def add(terms: Sequence[Tensor], scales: Sequence[float], scale: float, sign: int) -> Tensor:
    """Steps of a sum of two centred integer tensors: both are shifted up by 20 bits and scaled, then their sum."""
    largest = 2 * max(scales)
    first, second = (
        scaled(term.long() << _ADD_SHIFT, _real(s / largest)) for term, s in zip(terms, scales, strict=True)
    )
    return scaled(first + sign * second, _real(largest / (2.0**_ADD_SHIFT * scale)))


def mean(total: Tensor, count: int, ratio: float) -> Tensor:
    """Steps of a mean: the division by the count goes into the multiplier, whose mantissa it truncates.

    Args:
        total: int64 sums of centred integers.
        count: integers in each.
        ratio: s_x / s_y.
    """
    mantissa, exponent = multiplier_of(_real(ratio))
    shift = min(count.bit_length() - 1, 32, _BITS + int(exponent))
    return _scaled(total, (mantissa << shift) // count, exponent - shift)


def _real(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
