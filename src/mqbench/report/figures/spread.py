"""How far the algorithms lie apart on each backend and network (paper Fig. 5)."""

from collections.abc import Iterator, Mapping

from mqbench import paper
from mqbench.metrics import spread_across_algorithms
from mqbench.report.charts.heat import heat
from mqbench.report.context import Context
from mqbench.report.families import backend_name, variants
from mqbench.report.figures._base import Figure
from mqbench.report.picture import Picture
from mqbench.report.table import TITLES

Place = tuple[str, str]


def _pictures(context: Context) -> Iterator[Picture]:
    theirs = spread_across_algorithms(paper.records(7))
    for name, runs in variants(context.quantized):
        found = spread_across_algorithms(runs)
        if found:
            yield _picture(name, found, theirs if name == "imagenet, w4a4" else {})
    yield _picture("the paper's Table 7, imagenet, w4a4", theirs, {})


def _picture(name: str, found: Mapping[Place, float], theirs: Mapping[Place, float]) -> Picture:
    rows = list(dict.fromkeys(architecture for architecture, _ in found))
    present = {backend for _, backend in found}
    columns = [*(b for b in TITLES if b in present), *sorted(present - set(TITLES))]
    shown = {(a, backend_name(b)): value for (a, b), value in found.items()}
    title = f"Spread over the algorithms: {name}"
    return Picture(
        title=title,
        svg=heat(shown, rows, [backend_name(b) for b in columns], says=title),
        head=("network", "backend", "standard deviation, points", *(("the paper's",) if theirs else ())),
        rows=tuple(
            (a, backend_name(b), v, *((theirs.get((a, b)),) if theirs else ())) for (a, b), v in found.items()
        ),
    )


FIGURE = Figure(
    title="Spread over the algorithms",
    menu="Spread",
    text="Population standard deviation of the accuracy over the algorithms, in points (the paper's Fig. 5, whose "
    "caption calls it a variance): where it is small, the choice of the algorithm matters little. A run that did "
    "not converge counts as 0.",
    missing="It takes two algorithms on one backend.",
    order=50,
    pictures=_pictures,
)
