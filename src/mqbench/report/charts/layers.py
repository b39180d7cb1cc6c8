"""One column a layer: how its values are distributed, and the range to which they are clipped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mqbench.report.charts.frame import Frame, apart
from mqbench.report.charts.scale import covering
from mqbench.report.charts.svg import drawing, element, hover, number, path, series, text

_PITCH = 22.0


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Counts over even bins from ``low`` to ``high``, and the clipping range."""

    name: str
    low: float
    high: float
    counts: Sequence[float]
    clip: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Clipping ranges of one network, a pair for each layer."""

    name: str
    ranges: Sequence[tuple[float, float]]


def distributions(layers: Sequence[Distribution], *, y: str, says: str) -> str:
    """A violin for each layer, its width the square root of the count; bars mark the clipping range."""
    ends = covering([v for layer in layers for v in (layer.low, layer.high, *layer.clip)], 0.04)
    frame = _frame(len(layers), ends, [layer.name for layer in layers], right=16.0)
    parts = [frame.axes("", y, x_ticks=False), _names(frame, [layer.name for layer in layers])]
    for index, layer in enumerate(layers):
        middle = frame.x(index + 0.5)
        said = hover(
            f"{layer.name}: {layer.low:.3g} to {layer.high:.3g}, clipped to {layer.clip[0]:.3g} to {layer.clip[1]:.3g}"
        )
        marks = "".join(
            element("line", x1=middle - 8, x2=middle + 8, y1=frame.y(v), y2=frame.y(v), class_="whisker")
            for v in layer.clip
        )
        violin = element("path", d=_violin(frame, middle, layer), class_="area")
        parts.append(element("g", said + violin, class_="s0") + element("g", marks, class_="s1"))
    return drawing("".join(parts), frame.width, frame.height, says)


def spans(names: Sequence[str], given: Sequence[Span], *, y: str, says: str) -> str:
    """Both ends of the clipping range over the layers, a pair of lines for each network."""
    right = min(230.0, 24.0 + 7.2 * max(len(span.name) for span in given))
    ends = covering([v for span in given for pair in span.ranges for v in pair if math.isfinite(v)])
    frame = _frame(len(names), ends, names, right=right)
    parts = [frame.axes("", y, x_ticks=False), _names(frame, names)]
    spots = apart([frame.y(span.ranges[-1][1]) for span in given], 14.0, frame.y.end + 4, frame.y.start)
    for index, (span, spot) in enumerate(zip(given, spots, strict=True)):
        colour, dashes = series(index)
        body = ""
        for end in (0, 1):
            points = [(frame.x(i + 0.5), frame.y(pair[end])) for i, pair in enumerate(span.ranges)]
            body += path(points, class_="line", stroke_dasharray=dashes)
            dots = "".join([f"M{number(px)} {number(py)}h0" for px, py in points])
            body += element("path", d=dots, class_="dots")
        body += text(span.name, frame.x.end + 8, spot + 4, class_="series")
        parts.append(element("g", body, class_=colour))
    return drawing("".join(parts), frame.width, frame.height, says)


def _frame(count: int, ends: tuple[float, float], names: Sequence[str], *, right: float) -> Frame:
    room = 18.0 + 6.0 * max(map(len, names), default=0)
    width = max(360.0, 58.0 + right + _PITCH * count)
    return Frame.of((0.0, float(count)), ends, width=width, height=290.0 + room, right=right, bottom=room)


def _names(frame: Frame, names: Sequence[str]) -> str:
    found = []
    for index, name in enumerate(names):
        x, y = frame.x(index + 0.5) + 4, frame.y.start + 8
        turned = f"rotate(-90 {number(x)} {number(y)})"
        found.append(text(name, x, y, text_anchor="end", transform=turned, class_="quiet fine"))
    return "".join(found)


def _violin(frame: Frame, middle: float, layer: Distribution) -> str:
    largest = math.sqrt(max(layer.counts, default=0.0)) or 1.0
    step = (layer.high - layer.low) / len(layer.counts)
    sides = [
        (8.0 * math.sqrt(c) / largest, frame.y(layer.low + (i + 0.5) * step))
        for i, c in enumerate(layer.counts)
    ]
    there = "L".join(f"{number(middle + half)} {number(y)}" for half, y in sides)
    back = "L".join(f"{number(middle - half)} {number(y)}" for half, y in reversed(sides))
    return f"M{there}L{back}Z"
