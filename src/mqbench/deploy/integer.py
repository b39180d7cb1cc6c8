"""Integer-only inference: the arithmetic of paper Eq. 2 and 3 (SPEC section 11), exact.

Integers travel in int32 tensors. Sums are formed in float64, which holds every integer below 2^53, so
that torch's convolution kernels can be used; the overflow check keeps them within int32.
"""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from mqbench.deploy import doubling
from mqbench.errors import RequestError

INT32_MAX = 2**31 - 1
MULTIPLIER_BITS = 31


class Requantization(StrEnum):
    """How an accumulator becomes the next tensor's integers.

    ``FLOAT``: rint(float32(acc) M). ``FIXED``: M = m0 2^-n with m0 in [2^30, 2^31), one half-even rounding of
    the 64-bit product. ``SHIFT``: M is a power of two, an exact half-even shift. ``DOUBLING``: the multiplier of
    ``FIXED`` and two roundings, as TensorFlow Lite's reference kernels have them (`mqbench.deploy.doubling`).
    """

    FLOAT = "float"
    FIXED = "fixed"
    SHIFT = "shift"
    DOUBLING = "doubling"


def check_accumulator(terms: int, weight_bits: int, activation_bits: int) -> None:
    """Refuse a layer whose sums could leave int32: K 2^(t_w + t_x) must be below 2^31.

    Raises:
        RequestError: they could.
    """
    room = 31 - weight_bits - activation_bits
    if terms * 2 ** (weight_bits + activation_bits) >= 2**31:
        most = f"at most {2**room - 1} are safe, or use fewer bits" if room > 0 else "use fewer bits"
        raise RequestError(
            f"{terms} products of {weight_bits} and {activation_bits} bits can overflow a 32-bit accumulator; "
            f"{most}"
        )


def quantize_bias(bias: Tensor, weight_scale: Tensor, input_scale: Tensor) -> Tensor:
    """The int32 bias rint(b / (s_w s_x)), ``[channels]``.

    Raises:
        RequestError: it does not fit (a nearly dead channel has a tiny weight scale).
    """
    integers = torch.round(bias.double() / (weight_scale.double() * input_scale.double()))
    if bool((integers.abs() > INT32_MAX).any()):
        channel = int(integers.abs().argmax())
        raise RequestError(
            f"the bias of channel {channel} is {integers[channel]:.3g} steps, beyond int32; its weight scale must be "
            f"at least |b| / (s_x 2^29)"
        )
    return integers.to(torch.int32)


def accumulate(
    operation: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    *,
    x_zero_point: Tensor,
    weight_zero_point: Tensor,
    bias: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The int32 accumulator of a convolution or linear layer (Eq. 2).

    acc = sum w x - z_w sum x - z_x sum w + K z_w z_x + b: the operation on the centred integers. Padding
    with real zero is padding x with z_x.

    Args:
        operation: ``torch.nn.functional.conv2d``, ``linear``, ...
        x: integers of the input.
        weight: integers of the weight, output channel first.
        x_zero_point: 0-d.
        weight_zero_point: 0-d or ``[channels]``.
        bias: int32 ``[channels]``.
        options: of the operation (stride, padding, dilation, groups).

    Raises:
        RequestError: a sum left int32.
    """
    along = (
        weight_zero_point.reshape([-1] + [1] * (weight.dim() - 1))
        if weight_zero_point.dim()
        else weight_zero_point
    )
    centred = (weight - along).double()
    acc = operation((x - x_zero_point).double(), centred, None if bias is None else bias.double(), **options)
    if bool((acc.abs() > INT32_MAX).any()):
        raise RequestError(f"an accumulator reached {acc.abs().max():.0f}, beyond int32")
    return acc.to(torch.int32)


def requantize(
    acc: Tensor,
    multiplier: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    mode: Requantization = Requantization.FLOAT,
) -> Tensor:
    """Integers of the next tensor, clip(rint(acc M) + z, quant_min, quant_max) (Eq. 3).

    A ReLU is a lower clip at max(quant_min, z). ``multiplier`` M = s_w s_x / s_y broadcasts against ``acc``.

    Raises:
        RequestError: mode ``SHIFT`` and a multiplier that is not a power of two.
    """
    if mode is Requantization.FLOAT:
        steps = torch.round(acc.float() * multiplier.float()).to(torch.int64)
    elif mode is Requantization.DOUBLING:
        steps = doubling.scaled(acc.long(), multiplier)
    else:
        mantissa, shift = (
            _as_fixed_point(multiplier) if mode is Requantization.FIXED else _as_shift(multiplier)
        )
        steps = _shift_half_even(acc.long() * mantissa, shift)
    return (steps + zero_point).clamp(quant_min, quant_max).to(torch.int32)


def _as_fixed_point(multiplier: Tensor) -> tuple[Tensor, Tensor]:
    """m0 in [2^30, 2^31) and n with M = m0 2^-n."""
    fraction, exponent = torch.frexp(multiplier.double())  # fraction in [0.5, 1)
    mantissa = torch.round(fraction * 2.0**MULTIPLIER_BITS).long()
    shift = MULTIPLIER_BITS - exponent.long()
    carried = mantissa == 2**MULTIPLIER_BITS
    return torch.where(carried, mantissa // 2, mantissa), torch.where(carried, shift - 1, shift)


def _as_shift(multiplier: Tensor) -> tuple[Tensor, Tensor]:
    fraction, exponent = torch.frexp(multiplier.double())
    if bool((fraction != 0.5).any()):
        raise RequestError("a shift needs multipliers that are powers of two; use mode 'fixed' or 'float'")
    return torch.ones_like(exponent, dtype=torch.int64), 1 - exponent.long()


def _shift_half_even(value: Tensor, shift: Tensor) -> Tensor:
    """value 2^-shift, rounded half to even; a negative shift multiplies."""
    right = shift.clamp(0, 62)
    quotient = value >> right
    rest = value - (quotient << right)
    half = torch.where(
        right > 0, torch.ones_like(right) << (right - 1).clamp_min(0), torch.full_like(right, 2**62)
    )
    up = (rest > half) | ((rest == half) & (quotient % 2 == 1))
    return (quotient + up.long()) << (-shift).clamp_min(0)


def add(
    first: Tensor,
    first_scale: Tensor,
    second: Tensor,
    second_scale: Tensor,
    second_zero_point: Tensor,
    *,
    first_zero_point: Tensor | int = 0,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
) -> Tensor:
    """Integers of a residual add.

    Graph 3 adds two integer tensors; in graph 2 ``first`` is the accumulator of the convolution, whose
    scale is s_w s_x (broadcasting against it) and zero point 0.
    """
    left = (first - first_zero_point).double() * first_scale.double()
    right = (second - second_zero_point).double() * second_scale.double()
    steps = torch.round((left + right) / scale.double()).to(torch.int64)
    return (steps + zero_point).clamp(quant_min, quant_max).to(torch.int32)


def global_average_pool(
    x: Tensor,
    *,
    x_scale: Tensor,
    x_zero_point: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
) -> Tensor:
    """Integers ``[N, C]`` of the mean over all spatial axes: an integer sum, M = s_x / (HW s_y)."""
    pixels = math.prod(x.shape[2:])
    total = (x.flatten(2).long() - x_zero_point).sum(2)
    steps = torch.round(total.double() * (x_scale.double() / (pixels * scale.double()))).to(torch.int64)
    return (steps + zero_point).clamp(quant_min, quant_max).to(torch.int32)
