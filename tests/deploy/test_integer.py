"""Integer arithmetic against exact rational and expanded forms."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from mqbench.deploy import integer
from mqbench.deploy.integer import Requantization
from mqbench.errors import RequestError

INT32 = st.integers(-(2**31) + 1, 2**31 - 1)


def half_even(value: Fraction) -> int:
    return round(value)  # Python rounds fractions half to even, exactly


@given(st.lists(INT32, min_size=1, max_size=8), st.floats(2.0**-20, 4.0), st.integers(-128, 127))
def test_fixed_point_is_one_exact_half_even_rounding(acc: list[int], multiplier: float, zero: int) -> None:
    fraction, exponent = math.frexp(multiplier)
    m0, shift = half_even(Fraction(fraction) * 2**31), 31 - exponent
    want = [half_even(Fraction(a * m0) / Fraction(2) ** shift) + zero for a in acc]
    low, high = -(2**31), 2**31 - 1
    got = integer.requantize(
        torch.tensor(acc), torch.tensor(multiplier, dtype=torch.float64), torch.tensor(zero), low, high,
        Requantization.FIXED,
    )  # fmt: skip
    assert got.tolist() == [min(max(w, low), high) for w in want]


@given(st.lists(INT32, min_size=1, max_size=8), st.integers(-6, 31))
def test_shift_is_exact(acc: list[int], shift: int) -> None:
    multiplier = torch.tensor(2.0**-shift, dtype=torch.float64)
    got = integer.requantize(
        torch.tensor(acc), multiplier, torch.tensor(0), -(2**31), 2**31 - 1, Requantization.SHIFT
    )
    want = [min(max(half_even(Fraction(a) / Fraction(2) ** shift), -(2**31)), 2**31 - 1) for a in acc]
    assert got.tolist() == want


def test_a_shift_needs_a_power_of_two() -> None:
    with pytest.raises(RequestError, match="powers of two"):
        integer.requantize(torch.tensor([1]), torch.tensor(0.3), torch.tensor(0), -8, 7, Requantization.SHIFT)


@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([1, 2]))
def test_the_accumulator_is_eq_2(seed: int, per_channel: bool, groups: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(-128, 128, shape, generator=generator, dtype=torch.int32)

    x, w, zx = draw(2, 4, 5, 5), draw(6, 4 // groups, 3, 3), draw(1)[0]
    zw = draw(6) if per_channel else draw(1)[0]
    bias = draw(6) * 1000
    got = integer.accumulate(
        F.conv2d, x, w, x_zero_point=zx, weight_zero_point=zw, bias=bias, groups=groups, stride=2
    )
    z = zw.reshape(-1).expand(6).double().reshape(1, -1, 1, 1)
    xd, wd, ones = x.double(), w.double(), torch.ones(w.shape, dtype=torch.float64)

    def convolve(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.conv2d(a, b, groups=groups, stride=2)

    terms = w[0].numel()
    sum_w = wd.sum((1, 2, 3)).reshape(1, -1, 1, 1)
    want = convolve(xd, wd) - z * convolve(xd, ones) - zx * sum_w + terms * z * zx
    assert torch.equal(got.double(), want + bias.reshape(1, -1, 1, 1))


def test_padding_is_real_zero() -> None:
    x, w = torch.full((1, 1, 3, 3), 5, dtype=torch.int32), torch.ones(1, 1, 3, 3, dtype=torch.int32)
    zero = torch.tensor(5)
    acc = integer.accumulate(F.conv2d, x, w, x_zero_point=zero, weight_zero_point=torch.tensor(0), padding=1)
    assert not acc.any()


def test_overflow_is_refused() -> None:
    integer.check_accumulator(2**14, 8, 8)
    with pytest.raises(RequestError, match="at most 32767 are safe"):
        integer.check_accumulator(2**15, 8, 8)
    with pytest.raises(RequestError, match="beyond int32"):
        integer.quantize_bias(torch.tensor([0.1, 5.0]), torch.tensor([1.0, 1e-9]), torch.tensor(0.1))
    big = torch.full((1, 70000), 32767, dtype=torch.int32)
    with pytest.raises(RequestError, match="beyond int32"):
        integer.accumulate(
            F.linear, big, big, x_zero_point=torch.tensor(0), weight_zero_point=torch.tensor(0)
        )
