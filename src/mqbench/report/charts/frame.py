"""What charts stand in: a box with a scale on each side, grid lines, ticks and names."""

from dataclasses import dataclass

from mqbench.report.charts.scale import Scale, label
from mqbench.report.charts.svg import element, text

LEFT, TOP, BOTTOM = 58.0, 12.0, 44.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A chart of ``width`` x ``height`` pixels with ``right`` of them left for names of series."""

    width: float
    height: float
    x: Scale
    y: Scale

    @classmethod
    def of(
        cls,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        width: float = 620.0,
        height: float = 320.0,
        right: float = 20.0,
        log_x: bool = False,
        bottom: float = BOTTOM,
    ) -> "Frame":
        """With ranges of values on both sides."""
        return cls(
            width=width,
            height=height,
            x=Scale(low=x[0], high=x[1], start=LEFT, end=width - right, log=log_x),
            y=Scale(low=y[0], high=y[1], start=height - bottom, end=TOP),
        )

    def axes(self, x_name: str, y_name: str, *, x_ticks: bool = True) -> str:
        """Grid, ticks and the names of both sides."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = []
        for tick in self.y.ticks():
            y = self.y(tick)
            parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(text(label(tick), left - 7, y + 4, text_anchor="end", class_="quiet"))
        for tick in self.x.ticks() if x_ticks else ():
            x = self.x(tick)
            parts.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
            parts.append(text(label(tick), x, bottom + 17, text_anchor="middle", class_="quiet"))
        parts.append(element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        if x_name:
            parts.append(text(x_name, (left + right) / 2, self.height - 8, text_anchor="middle"))
        middle = (top + bottom) / 2
        parts.append(
            text(y_name, 14.0, middle, text_anchor="middle", transform=f"rotate(-90 14 {middle:.0f})")
        )
        return "".join(parts)


def apart(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels near where they are wanted, ``gap`` from one another where there is room."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    places = list(wanted)
    before = low - gap
    for index in order:
        before = places[index] = max(places[index], before + gap)
    after = high + gap
    for index in reversed(order):
        after = places[index] = min(places[index], after - gap)
    return places
