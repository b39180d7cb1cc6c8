"""Student's t distribution, without a dependency (Abramowitz & Stegun 26.5.8 and 26.7.1)."""

import math
from functools import cache

_TINY = 1e-300


def p_value(t: float, freedom: float) -> float:
    """Two-sided probability of a value as far from 0 as ``t``.

    >>> round(p_value(12.706, 1), 4)
    0.05
    """
    if freedom <= 0:
        raise ValueError(f"degrees of freedom must be positive, got {freedom}")
    if math.isinf(t):
        return 0.0
    square = t * t
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + square), square / (freedom + square))


@cache
def quantile(confidence: float, freedom: float) -> float:
    """The t that is exceeded, on both sides together, with probability ``1 - confidence``.

    >>> round(quantile(0.95, 2), 3)
    4.303
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    low, high = 0.0, 1.0
    while p_value(high, freedom) > 1 - confidence:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if p_value(middle, freedom) > 1 - confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float, y: float) -> float:
    """Regularised, at x = 1 - y; both are given, because 1 - x would lose what is close to 1."""
    if x == 0 or y == 0:
        return float(y == 0)
    if x > (a + 1) / (a + b + 2):  # the continued fraction converges fast below this
        return 1 - _incomplete_beta(b, a, y, x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y))
    return front / a * _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """Lentz's evaluation of the continued fraction of the incomplete beta function."""
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + term * d)
            c = _away(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _away(x: float) -> float:
    return x if abs(x) > _TINY else _TINY
