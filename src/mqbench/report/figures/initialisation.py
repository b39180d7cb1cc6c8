"""Accuracy over the training from different calibrations (paper Fig. 12)."""

from collections.abc import Iterator

from mqbench.report.charts.lines import lines
from mqbench.report.context import Context
from mqbench.report.families import families
from mqbench.report.figures._base import Figure
from mqbench.report.figures.curves import tested
from mqbench.report.picture import Picture

_FIELDS = ("activation_calibration", "weight_calibration")


def _pictures(context: Context) -> Iterator[Picture]:
    for family in families(context.records, *_FIELDS):
        found = {name: (run, context.curve(run)) for name, run in family.runs.items()}
        drawn = [
            tested(name, curve, run.calibrated_accuracy)
            for name, (run, curve) in found.items()
            if curve is not None
        ]
        if len(drawn) < 2:
            continue
        title = f"{family.title}: by calibration"
        yield Picture(
            title=title,
            svg=lines(
                drawn, x=next(c.unit for _, c in found.values() if c), y="test accuracy, %", says=title
            ),
            note="a: calibration of the activations, w: of the weights.",
            head=("calibration", "calibrated, %", "trained, %"),
            rows=tuple((line.name, (line.raw or line.y)[0], (line.raw or line.y)[-1]) for line in drawn),
        )


FIGURE = Figure(
    title="Initialisation",
    menu="Initialisation",
    text="Test accuracy over the training of runs that differ in their calibration alone (the paper's Fig. 12): the "
    "first point is the calibrated network before any training.",
    missing="It takes trained runs with two calibrations, such as mqbench run --algorithm lsq "
    "--weight-calibration minmax,norm --activation-calibration minmax,quantile.",
    order=90,
    pictures=_pictures,
)
