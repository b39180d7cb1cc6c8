"""Lines over a common axis, each named where it ends; a smoothed one over its raw values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mqbench.report.charts.frame import Frame, apart
from mqbench.report.charts.scale import covering
from mqbench.report.charts.svg import drawing, element, path, series, text


@dataclass(frozen=True, kw_only=True)
class Line:
    """A named line; ``raw`` is drawn faint below it. Values that are not finite are gaps at the ends."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    raw: Sequence[float] | None = None
    colour: int | None = None


def lines(given: Sequence[Line], *, x: str, y: str, says: str, height: float = 320.0) -> str:
    """A chart of lines; a line of one point is a dot."""
    shown = [line for line in given if any(map(math.isfinite, line.y))]
    longest = max((len(line.name) for line in shown), default=0)
    right = min(230.0, 24.0 + 7.2 * longest)
    values = [v for line in shown for v in (*line.y, *(line.raw or ()))]
    places = [v for line in shown for v in line.x]
    low, high = (min(places), max(places)) if places else (0.0, 1.0)
    if low == high:
        low, high = low - 1.0, high + 1.0
    frame = Frame.of((low, high), covering(values), width=500.0 + right, height=height, right=right)
    parts = [frame.axes(x, y)]
    ends = [frame.y(next(v for v in reversed(line.y) if math.isfinite(v))) for line in shown]
    spots = apart(ends, 14.0, frame.y.end + 4, frame.y.start)
    for index, (line, spot) in enumerate(zip(shown, spots, strict=True)):
        colour, dashes = series(index if line.colour is None else line.colour)
        parts.append(
            element(
                "g",
                (_drawn(frame, line.x, line.raw, "line raw", None) if line.raw is not None else "")
                + _drawn(frame, line.x, line.y, "line", dashes)
                + text(line.name, frame.x.end + 8, spot + 4, class_="series"),
                class_=colour,
            )
        )
    return drawing("".join(parts), frame.width, frame.height, says)


def _drawn(frame: Frame, x: Sequence[float], y: Sequence[float], class_: str, dashes: str | None) -> str:
    points = [(frame.x(a), frame.y(b)) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    if len(points) == 1:
        (place,) = points
        return element("circle", cx=place[0], cy=place[1], r=3.5, class_="dot")
    return path(points, class_=class_, stroke_dasharray=dashes)
