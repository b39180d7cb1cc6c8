"""Rank correlations of two lists of numbers, ties counted."""

from collections.abc import Sequence
from statistics import fmean


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's tau-b; None if either list is constant or shorter than two.

    >>> kendall([1, 2, 3], [1, 3, 2])
    0.3333333333333333
    """
    _check(x, y)
    agree = x_apart = y_apart = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = _sign(x[i] - x[j]), _sign(y[i] - y[j])
            agree += a * b
            x_apart += a * a
            y_apart += b * b
    if not x_apart or not y_apart:
        return None
    return agree / (x_apart * y_apart) ** 0.5


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rho, the correlation of the ranks; None if either list is constant or shorter than two."""
    _check(x, y)
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    a, b = ranks(x), ranks(y)
    mean = fmean(a)
    covariance = sum((p - mean) * (q - mean) for p, q in zip(a, b, strict=True))
    return covariance / (sum((p - mean) ** 2 for p in a) * sum((q - mean) ** 2 for q in b)) ** 0.5


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, the smallest first; equal values share the mean of theirs.

    >>> ranks([10.0, 30.0, 10.0])
    [1.5, 3.0, 1.5]
    """
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def chance(count: int) -> float:
    """The |tau| that 5 % of unrelated rankings of ``count`` things exceed (normal approximation).

    >>> round(chance(24), 2)
    0.29
    """
    return 1.96 * (2 * (2 * count + 5) / (9 * count * (count - 1))) ** 0.5


def _check(x: Sequence[float], y: Sequence[float]) -> None:
    if len(x) != len(y):
        raise ValueError(f"the lists must be of one length, got {len(x)} and {len(y)}")


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
