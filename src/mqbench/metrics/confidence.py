"""Confidence intervals over seeds."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from mqbench.metrics import student


@dataclass(frozen=True)
class Interval:
    """An estimate and where the true value lies with the stated confidence."""

    estimate: float
    low: float
    high: float
    confidence: float = 0.95


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Student's t interval of a mean: mean -/+ t(confidence, n-1) s/sqrt(n).

    None with fewer than two values. It holds for values that are near normal; a seed that did not converge
    (0 among seventies) is not, and the interval is then wide, which is right.

    >>> round(mean_interval([70.0, 71.0, 72.0]).low, 2)
    68.52
    """
    if len(values) < 2:
        return None
    mean = fmean(values)
    half = student.quantile(confidence, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half, confidence)


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float] = fmean,
    confidence: float = 0.95,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of any statistic; None with fewer than five values.

    For statistics that have no t interval (a spread, a maximum) and for cells as the sampled units. With
    the three seeds of a usual cell it is far too narrow, so it is refused there.
    """
    if len(values) < 5:
        return None
    draw = random.Random(seed)
    found = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(resamples))
    tail = (1 - confidence) / 2
    low, high = (found[round(q * (resamples - 1))] for q in (tail, 1 - tail))
    return Interval(statistic(values), low, high, confidence)
