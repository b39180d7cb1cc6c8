"""Two roundings, against the same in Python's own integers."""

from fractions import Fraction

import torch
from hypothesis import given
from hypothesis import strategies as st

from mqbench.deploy import doubling, integer
from mqbench.deploy.integer import Requantization

INT32 = st.integers(-(2**31) + 1, 2**31 - 1)


def away(value: Fraction) -> int:
    """Half away from zero."""
    size = (abs(value) + Fraction(1, 2)).__floor__()
    return size if value >= 0 else -size


@given(st.lists(INT32, min_size=1, max_size=8), st.floats(2.0**-25, 1.0, exclude_max=True))
def test_requantization_rounds_twice(acc: list[int], multiplier: float) -> None:
    m0, exponent = (
        int(part) for part in doubling.multiplier_of(torch.tensor(multiplier, dtype=torch.float64))
    )
    assert 2**30 <= m0 < 2**31
    assert (
        abs(Fraction(m0) * Fraction(2) ** (exponent - 31) - Fraction(multiplier))
        <= Fraction(multiplier) / 2**31
    )
    if exponent > 0:  # rounded up to one
        return
    got = integer.requantize(
        torch.tensor(acc), torch.tensor(multiplier, dtype=torch.float64), torch.tensor(3), -(2**31), 2**31 - 1,
        Requantization.DOUBLING,
    )  # fmt: skip
    once = [nearest(Fraction(a * m0, 2**31)) for a in acc]
    assert got.tolist() == [min(away(Fraction(n, 2**-exponent)) + 3, 2**31 - 1) for n in once]


def nearest(value: Fraction) -> int:
    """Half up above zero; below it gemmlowp's nudge is one less than half, so that halves go up as well."""
    return (value + Fraction(1, 2)).__floor__()


def test_halves_go_otherwise_than_half_even() -> None:
    """A quarter is a half rounded up, then a half rounded away from zero: two roundings make 1 of 1/4."""
    acc, quarter = torch.tensor([-6, -2, -1, 1, 2, 6]), torch.tensor(0.25, dtype=torch.float64)
    found = {
        mode: integer.requantize(acc, quarter, torch.tensor(0), -9, 9, mode).tolist()
        for mode in (Requantization.DOUBLING, Requantization.SHIFT)
    }
    assert found[Requantization.DOUBLING] == [-2, -1, 0, 1, 1, 2]
    assert found[Requantization.SHIFT] == [-2, 0, 0, 0, 0, 2]


@given(
    st.integers(-255, 255), st.integers(-255, 255), st.floats(0.01, 4.0), st.floats(0.01, 4.0),
    st.floats(0.05, 4.0), st.sampled_from([1, -1]),
)  # fmt: skip
def test_an_add_is_within_half_a_step(a: int, b: int, s_a: float, s_b: float, s_c: float, sign: int) -> None:
    steps = doubling.add([torch.tensor([a]), torch.tensor([b])], [s_a, s_b], s_c, sign)
    assert abs(int(steps) - (a * s_a + sign * b * s_b) / s_c) <= 0.5 + 1e-3


@given(st.integers(1, 400), st.integers(-255, 255), st.floats(0.25, 3.0))
def test_a_mean_is_within_three_quarters_of_a_step(count: int, each: int, ratio: float) -> None:
    steps = doubling.mean(torch.tensor([count * each]), count, ratio)
    assert abs(int(steps) - each * ratio) <= 0.75 + 1e-3
