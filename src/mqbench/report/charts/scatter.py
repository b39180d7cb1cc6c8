"""Points with names, and the front of those that no other point is better than in both."""

from collections.abc import Sequence
from dataclasses import dataclass

from mqbench.report.charts.frame import Frame
from mqbench.report.charts.scale import covering
from mqbench.report.charts.svg import drawing, element, hover, path, series, text

_Box = tuple[float, float, float, float]  # left, top, width, height


@dataclass(frozen=True, kw_only=True)
class Point:
    """A named point of a series."""

    name: str
    series: str
    x: float
    y: float


def front(points: Sequence[Point]) -> list[Point]:
    """The points to which none has less ``x`` and at least the ``y``, by ``x`` (Pareto)."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:
            best.append(point)
    return best


def scatter(points: Sequence[Point], *, x: str, y: str, says: str) -> str:
    """A scatter over a logarithmic axis with the front as a line of steps."""
    names = list(dict.fromkeys(point.series for point in points))
    low, high = min(p.x for p in points), max(p.x for p in points)
    frame = Frame.of(
        (low / 1.25, high * 1.25), covering([p.y for p in points], 0.1), width=700.0, height=380.0, right=30.0,
        log_x=True, bottom=44.0 + 20,
    )  # fmt: skip
    parts = [
        frame.axes("", y),
        text(x, (frame.x.start + frame.x.end) / 2, frame.y.start + 34, text_anchor="middle"),
    ]
    best = front(points)
    steps = [(frame.x(best[0].x), frame.y.start)]
    for point in best:
        steps += [(frame.x(point.x), steps[-1][1]), (frame.x(point.x), frame.y(point.y))]
    parts.append(path([*steps[1:], (frame.x.end, steps[-1][1])], class_="line raw band"))
    taken: list[_Box] = [(frame.x(p.x) - 5, frame.y(p.y) - 5, 10.0, 10.0) for p in points]
    for point in sorted(points, key=lambda p: p not in best):
        px, py = frame.x(point.x), frame.y(point.y)
        pointed = hover(f"{point.name}, {point.series}: {point.x:.2f} ms, {point.y:.2f} %")
        shape = element("circle", cx=px, cy=py, r=5, class_="dot" if point in best else "ring")
        said = _said(point.name, px, py, taken, frame)
        parts.append(element("g", pointed + shape + said, class_=series(names.index(point.series))[0]))
    for n, name in enumerate(names):
        at, y0 = 64.0 + n * 150.0, frame.height - 10
        mark = element("circle", cx=at, cy=y0 - 4, r=5, class_="dot")
        parts.append(element("g", mark + text(name, at + 10, y0, class_="series"), class_=series(n)[0]))
    return drawing("".join(parts), frame.width, frame.height, says)


def _said(name: str, px: float, py: float, taken: list[_Box], frame: Frame) -> str:
    """A name beside its point, where no other stands; none if there is no room (the table has all)."""
    width, height = 7.4 * len(name), 13.0
    for left, up in ((9.0, -6.0), (-9.0 - width, -6.0), (-width / 2, -22.0), (-width / 2, 9.0)):
        box = (px + left, py + up, width, height)
        inside = (
            box[0] > frame.x.start and box[0] + width < frame.width and box[1] + height < frame.y.start + 6
        )
        if inside and not any(_meet(box, other) for other in taken):
            taken.append(box)
            return text(name, box[0], box[1] + 10, class_="series")
    return ""


def _meet(a: _Box, b: _Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
