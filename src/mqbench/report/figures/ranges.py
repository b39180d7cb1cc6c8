"""Clipping ranges of the activations that were learned (paper Fig. 10 and 11)."""

from collections.abc import Iterator

from mqbench.report.charts.layers import Span, spans
from mqbench.report.context import Context
from mqbench.report.families import Family, families, in_turn
from mqbench.report.figures._base import Figure
from mqbench.report.picture import Picture

_COMPARED = {
    "quantizer_weight_decay": "by L2 of the scales",
    "algorithm": "by algorithm",
    "bits": "by bits",
}


def _pictures(context: Context) -> Iterator[Picture]:
    return in_turn([_of(context, field, by) for field, by in _COMPARED.items()])


def _of(context: Context, field: str, by: str) -> Iterator[Picture]:
    for family in families(context.records, field):
        picture = _picture(context, family, by)
        if picture is not None:
            yield picture


def _picture(context: Context, family: Family, by: str) -> Picture | None:
    found = {
        name: {r.layer: (r.low[-1], r.high[-1]) for r in context.ranges(run) if r.role == "activation"}
        for name, run in family.runs.items()
    }
    found = {name: layers for name, layers in found.items() if layers}
    if len(found) < 2:
        return None
    layers = [layer for layer in next(iter(found.values())) if all(layer in own for own in found.values())]
    if not layers:
        return None
    title = f"{family.title}: {by}"
    given = [Span(name=name, ranges=[own[layer] for layer in layers]) for name, own in found.items()]
    return Picture(
        title=title,
        svg=spans(layers, given, y="clipping range", says=f"Clipping ranges of the activations, {title}"),
        head=("layer", *(f"{name}, {end}" for name in found for end in ("from", "to"))),
        rows=tuple((layer, *(v for own in found.values() for v in own[layer])) for layer in layers),
    )


FIGURE = Figure(
    title="Clipping ranges",
    menu="Ranges",
    text="To which range each activation quantizer clips after the training, layer by layer: algorithms beside one "
    "another (the paper's Fig. 10), and LSQ with different L2 regularization of its scales (Fig. 11).",
    missing="It takes two runs that differ in their algorithm, in --quantizer-weight-decay or in their bits.",
    order=80,
    pictures=_pictures,
)
