"""Horizontal bars from zero, with whiskers for a range."""

from collections.abc import Sequence
from dataclasses import dataclass

from mqbench.report.charts.scale import Scale, covering, label
from mqbench.report.charts.svg import drawing, element, text


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value with the range that it lies in."""

    name: str
    value: float
    low: float
    high: float


def bars(given: Sequence[Bar], *, x: str, says: str) -> str:
    """A bar for each value, from zero to either side."""
    left = 20.0 + 7.2 * max(len(bar.name) for bar in given)
    width, row = left + 400.0, 30.0
    ends = covering([0.0, *(v for bar in given for v in (bar.value, bar.low, bar.high))], 0.06)
    scale = Scale(low=ends[0], high=ends[1], start=left, end=width - 70)
    bottom = row * len(given) + 8
    parts = []
    for tick in scale.ticks():
        at = scale(tick)
        parts.append(element("line", x1=at, x2=at, y1=4, y2=bottom, class_="grid"))
        parts.append(text(label(tick), at, bottom + 16, text_anchor="middle", class_="quiet"))
    for index, bar in enumerate(given):
        y = row * index + 8
        zero, at = scale(0.0), scale(bar.value)
        parts.append(text(bar.name, left - 8, y + 16, text_anchor="end"))
        box = element("rect", x=min(zero, at), y=y + 3, width=abs(at - zero), height=16, class_="area")
        whisker = element(
            "line", x1=scale(bar.low), x2=scale(bar.high), y1=y + 11, y2=y + 11, class_="whisker"
        )
        parts.append(element("g", box + whisker, class_="s0" if bar.value >= 0 else "s2"))
        parts.append(text(f"{bar.value:+.2f}", width - 58, y + 16))
    zero = scale(0.0)
    parts.append(element("line", x1=zero, x2=zero, y1=4, y2=bottom, class_="axis"))
    parts.append(text(x, (left + width - 70) / 2, bottom + 36, text_anchor="middle"))
    return drawing("".join(parts), width, bottom + 46, says)
