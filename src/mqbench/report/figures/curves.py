"""Accuracy over the training, one line a run (paper appendix B.1)."""

from collections.abc import Iterator

from mqbench.report.charts.lines import Line, lines
from mqbench.report.context import Context
from mqbench.report.diagnostics import Curve
from mqbench.report.families import families, in_turn
from mqbench.report.figures._base import Figure
from mqbench.report.picture import Picture

# What the lines of one picture differ in, and the name of such a picture.
_COMPARED = {
    "algorithm": "by algorithm",
    "backend": "by backend",
    "bits": "by bits",
    "bn_folding": "by BN folding",
    "graph": "by graph",
    "quantizer_weight_decay": "by L2 of the scales",
}


def _pictures(context: Context) -> Iterator[Picture]:
    given = [_of(context, field, by) for field, by in _COMPARED.items()]
    return in_turn(given, 2)  # test and training stay side by side


def _of(context: Context, field: str, by: str) -> Iterator[Picture]:
    for family in families(context.records, field):
        found = {name: (run, context.curve(run)) for name, run in family.runs.items()}
        known = {name: (run.calibrated_accuracy, curve) for name, (run, curve) in found.items() if curve}
        if any(len(curve.x) > 1 for _, curve in known.values()):
            yield _test(f"{family.title}: test accuracy {by}", known)
            yield _train(f"{family.title}: training accuracy {by}", known)


def _test(title: str, known: dict[str, tuple[float | None, Curve]]) -> Picture:
    return _picture(
        title, "test accuracy, %", [tested(n, c, start) for n, (start, c) in known.items()], known
    )


def _train(title: str, known: dict[str, tuple[float | None, Curve]]) -> Picture:
    drawn = [Line(name=n, x=c.x, y=c.train_ema, raw=c.train) for n, (_, c) in known.items()]
    return _picture(title, "training accuracy, %", drawn, known)


def _picture(title: str, y: str, drawn: list[Line], known: dict[str, tuple[float | None, Curve]]) -> Picture:
    unit = next(iter(known.values()))[1].unit
    return Picture(
        title=title,
        svg=lines(drawn, x=unit, y=y, says=title),
        head=("run", "first, %", "last, %", "last, smoothed, %"),
        rows=tuple(
            (line.name, (line.raw or line.y)[0], (line.raw or line.y)[-1], line.y[-1]) for line in drawn
        ),
    )


def tested(name: str, curve: Curve, calibrated: float | None) -> Line:
    """The test accuracies of a run, from what it was worth before the training on."""
    if calibrated is None:
        return Line(name=name, x=curve.x, y=curve.test_ema, raw=curve.test)
    # what was there before the training is no look at it, and is not smoothed with them
    return Line(name=name, x=[0, *curve.x], y=[calibrated, *curve.test_ema], raw=[calibrated, *curve.test])


FIGURE = Figure(
    title="Training curves",
    menu="Curves",
    text="Accuracy over the training, of runs that differ in one thing (the paper's appendix B.1): the bold line is "
    "the exponential moving average with 0.3 of the old value, the faint one the raw values. Test accuracies "
    "start at what the network was worth after calibration. Of several seeds the lowest is drawn.",
    missing="It takes two runs that differ in one thing and were trained for two looks or more "
    "(mqbench run --monitor-steps sets how often a run looks).",
    order=60,
    pictures=_pictures,
)
