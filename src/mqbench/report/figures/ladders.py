"""Which property of a library costs the accuracy: the ladders that the store holds."""

from collections.abc import Iterator

from mqbench.report.charts.bars import Bar, bars
from mqbench.report.context import Context
from mqbench.report.families import backend_name, described
from mqbench.report.figures._base import Figure
from mqbench.report.ladders import Climbed, climbed
from mqbench.report.picture import Picture


def _pictures(context: Context) -> Iterator[Picture]:
    for found in climbed(context.quantized):
        yield _picture(found)


def _picture(found: Climbed) -> Picture:
    way = found.ladder
    ends = f"{backend_name(way.start.backend)} to {backend_name(way.end.backend)}"
    title = f"{ends}: {described(way.start, leave_out=('backend', 'seed'))}"
    drawn = [Bar(name=s.switch, value=s.loss, low=s.least, high=s.most) for s in found.steps]
    rows = []
    for step in found.steps:
        interval = found.intervals[step.switch]
        between = (interval.low, interval.high) if interval else (None, None)
        rows.append((step.switch, way.change(step.switch), step.loss, step.least, step.most, *between))
    orders = "1 order" if len(way.orders) == 1 else f"{len(way.orders)} orders"
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    return Picture(
        title=title,
        svg=bars(drawn, x="points lost", says=f"Points lost by each switch from {title}"),
        note=f"From {found.start:.2f} % to {found.end:.2f} %, {found.start - found.end:+.2f} points lost; mean "
        f"over {orders} of the switches (whiskers: least and most) and {seeds}.",
        head=("switch", "change", "points lost", "least", "most", "95 % from", "95 % to"),
        rows=tuple(rows),
    )


FIGURE = Figure(
    title="Gap ladders",
    menu="Ladders",
    text="From one setting to another, one switch at a time: which property of the library costs how many points. What "
    "a switch costs depends on those turned before it; over all orders the mean is its Shapley value.",
    missing="It takes the records of a ladder: mqbench ladder --from academic --to tvm makes them. Ladders between two "
    "backends with all else equal are found.",
    order=54,
    pictures=_pictures,
)
