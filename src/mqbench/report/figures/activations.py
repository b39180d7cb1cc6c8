"""Distribution of the activations, layer by layer (paper Fig. 9)."""

from collections.abc import Iterator

from mqbench.record import Record
from mqbench.report.charts.layers import Distribution, distributions
from mqbench.report.context import Context
from mqbench.report.diagnostics import layer_of
from mqbench.report.families import described
from mqbench.report.figures._base import Figure
from mqbench.report.picture import Picture

_BINS = 64


def _pictures(context: Context) -> Iterator[Picture]:
    for record in _telling(context.quantized):
        found = {n: h for n, h in context.histograms(record).items() if not n.endswith(".weight_quantizer")}
        if not found:
            continue
        order = [r.name for r in context.ranges(record) if r.name in found] or sorted(found)
        layers = [
            Distribution(
                name=layer_of(name),
                low=found[name].low,
                high=found[name].high,
                counts=found[name].rebinned(_BINS).tolist(),
                clip=found[name].clip,
            )
            for name in order
        ]
        title = described(record.setting)
        yield Picture(
            title=title,
            svg=distributions(layers, y="activation", says=f"Distribution of the activations of {title}"),
            head=("layer", "smallest", "largest", "clipped from", "clipped to", "outside, %"),
            rows=tuple(
                (layer_of(n), found[n].low, found[n].high, *found[n].clip, 100 * found[n].clipped)
                for n in order
            ),
        )


def _telling(records: list[Record]) -> list[Record]:
    """One run of each network first, LSQ's in the academic setting as in the paper if there is one."""
    fitting = sorted(
        (r for r in records if r.outcome != "failed"),
        key=lambda r: (
            r.setting.algorithm != "lsq",
            r.setting.backend != "academic",
            len(described(r.setting)),  # the fewer words, the more is at its default
            r.setting.seed,
        ),
    )
    seen: set[tuple[str, str]] = set()
    first: list[Record] = []
    rest: list[Record] = []
    for record in fitting:
        place = (record.setting.architecture, record.setting.dataset)
        (rest if place in seen else first).append(record)
        seen.add(place)
    return first + rest


FIGURE = Figure(
    title="Activations",
    menu="Activations",
    text="What reaches each activation quantizer on 64 test images at the end of the training, before it is quantized "
    "(the paper's Fig. 9): the width of a violin is the square root of the count, the bars mark the range to which "
    "the quantizer clips. The image and the input of the last layer keep 8 bits.",
    missing="It takes a run of a quantized network that left its histograms, as every run of mqbench does.",
    order=70,
    pictures=_pictures,
    shown=8,
)
