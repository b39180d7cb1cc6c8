"""Values of several series side by side in groups: dots on a common scale, where bars would start at nothing."""

from collections.abc import Mapping, Sequence

from mqbench.report.charts.frame import Frame
from mqbench.report.charts.scale import covering
from mqbench.report.charts.svg import drawing, element, hover, series, text

Key = tuple[str, str]


def dots(
    values: Mapping[Key, float], groups: Sequence[str], names: Sequence[str], *, y: str, says: str
) -> str:
    """A dot for each (group, name); lines from the axis show the distance."""
    slot = max(15.0, 44.0 / max(len(names), 1))
    pitch = max(slot * (len(names) + 1), 7.0 * max(map(len, groups), default=1) + 10)
    legend = 20.0 * ((len(names) + 4) // 5) + 10
    width = max(320.0, 78.0 + pitch * len(groups))
    low, high = covering(values.values(), 0.08)
    frame = Frame.of((0.0, 1.0), (low, high), width=width, height=300.0 + legend, bottom=32.0 + legend)
    parts = [frame.axes("", y, x_ticks=False)]
    for g, group in enumerate(groups):
        middle = frame.x.start + pitch * (g + 0.5)
        parts.append(text(group, middle, frame.y.start + 18, text_anchor="middle"))
        for n, name in enumerate(names):
            value = values.get((group, name))
            if value is None:
                continue
            x = middle + (n - (len(names) - 1) / 2) * slot
            at = frame.y(value)
            said = hover(f"{group}, {name}: {value:.2f}")
            mark = element("line", x1=x, x2=x, y1=frame.y.start, y2=at, class_="whisker", opacity=0.35)
            parts.append(element("g", said + mark + _mark(n, x, at), class_=series(n)[0]))
    for n, name in enumerate(names):
        x, y0 = 64.0 + (n % 5) * 105.0, frame.y.start + 42 + 20 * (n // 5)
        named = text(name, x + 10, y0 + 4, class_="series")
        parts.append(element("g", _mark(n, x, y0) + named, class_=series(n)[0]))
    return drawing("".join(parts), max(width, 64.0 + 105.0 * min(len(names), 5)), frame.height, says)


def _mark(index: int, x: float, y: float) -> str:
    """A shape for each series, so that colour is not all that tells them apart."""
    match index % 4:
        case 0:
            return element("circle", cx=x, cy=y, r=4.5, class_="dot")
        case 1:
            return element("rect", x=x - 4, y=y - 4, width=8, height=8, class_="dot")
        case 2:
            return element("path", d=f"M{x:.1f} {y - 5:.1f}l5 9h-10z", class_="dot")
        case _:
            return element("path", d=f"M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z", class_="dot")
