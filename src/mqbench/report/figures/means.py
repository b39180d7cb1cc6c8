"""Mean accuracies of the algorithms over backends and over networks (paper Fig. 6)."""

from collections.abc import Iterator, Mapping

from mqbench import paper
from mqbench.metrics import architecture_means, hardware_means
from mqbench.record import Record
from mqbench.report.charts.dots import dots
from mqbench.report.context import Context
from mqbench.report.families import backend_name, variants
from mqbench.report.figures._base import Figure
from mqbench.report.picture import Picture
from mqbench.report.table import TITLES

Key = tuple[str, str]


def _pictures(context: Context) -> Iterator[Picture]:
    for name, runs in variants(context.quantized):
        yield from _both(name, runs)
    yield from _both("the paper's Table 7, imagenet, w4a4", paper.records(7))


def _both(name: str, runs: list[Record]) -> Iterator[Picture]:
    left = hardware_means(runs)
    if len({algorithm for _, algorithm in left}) > 1:
        yield _picture(f"Mean over the hardware settings: {name}", "network", left)
    found = architecture_means(runs)
    if len({algorithm for _, algorithm in found}) > 1:
        order = [
            *(b for b in TITLES if b in {x for x, _ in found}),
            *sorted({x for x, _ in found} - set(TITLES)),
        ]
        right = {(backend_name(b), a): v for o in order for (b, a), v in found.items() if b == o}
        yield _picture(f"Mean over the networks: {name}", "backend", right)


def _picture(title: str, kind: str, values: Mapping[Key, float]) -> Picture:
    groups = list(dict.fromkeys(group for group, _ in values))
    names = sorted({algorithm for _, algorithm in values})
    return Picture(
        title=title,
        svg=dots(values, groups, names, y="accuracy, %", says=title),
        head=(kind, *names),
        rows=tuple((group, *(values.get((group, name)) for name in names)) for group in groups),
    )


FIGURE = Figure(
    title="Mean accuracies",
    menu="Means",
    text="Hardware robustness, the mean over the hardware settings by network (the paper's Fig. 6, left), and "
    "architecture robustness, the mean over the networks by backend (right). A run that did not converge counts as 0. "
    "The axes do not start at nothing.",
    missing="It takes two algorithms.",
    order=52,
    pictures=_pictures,
)
