"""From values to pixels, with ticks at round numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """``low`` to ``high`` on ``start`` to ``end`` pixels; ``log`` needs positive values."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers within, about ``count`` of them."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        else:
            step = _step((self.high - self.low) / count)
            first = math.ceil(self.low / step - 1e-9)
            found = [round((first + i) * step, 10) for i in range(4 * count)]
        room = 1e-9 * self.low if self.log else 1e-6 * (self.high - self.low)
        return [tick for tick in found if self.low - room <= tick <= self.high + room] or [self.low]


def covering(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """Ends that hold all finite values with a margin; never equal, (0, 1) without values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * margin or abs(high) * margin or 1.0
    return low - room, high + room


def label(value: float) -> str:
    """A tick in few characters.

    >>> [label(v) for v in (0.25, 12000.0, 3.0)]
    ['0.25', '12,000', '3']
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def _step(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * digit for digit in (1, 2, 5, 10) if rough <= power * digit * (1 + 1e-9))
