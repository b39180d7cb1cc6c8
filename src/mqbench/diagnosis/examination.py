"""The measurement of a whole network: every quantizer, every layer, and what happens without each of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from mqbench.deploy.evaluation import batches_of
from mqbench.diagnosis.alternatives import alternatives
from mqbench.diagnosis.probe import LayerPoints, Point, Probe
from mqbench.diagnosis.score import Score
from mqbench.diagnosis.tally import Likeness, Tally
from mqbench.errors import RequestError
from mqbench.layers import DeployedLayer

VALUES_AT_ONCE = 2**26
"""Of all tensors of one run: 256 MiB, and some hundreds more for what is recomputed."""

KEPT_FLOAT = (1, 2, 3, 5)
"""Numbers of worst layers that are left in float together."""

ALTERNATIVES_OF = 5
"""Number of worst quantizers whose calibration is compared with the others."""

Chunk = tuple[tuple[Tensor, ...], Tensor | None]


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What was found, rows in the order of harm: the quantizer that hurts most comes first.

    Args:
        images: that statistics are of.
        sensitivity_images: that sensitivities are of.
        quantizers, layers: rows of `diagnose`.
        network_order: the layers in the order of the network.
        whole: of the network with all quantizers: ``sqnr_db``, ``agreement``, ``accuracy``, and
            ``float_accuracy``.
        kept_float: the worst layers left in float together: ``layers`` and the scores of ``whole``.
        alternatives: of the worst quantizers: ``quantizer``, ``observer``, ``sqnr_db`` of the output with
            only this quantizer.
    """

    images: int
    sensitivity_images: int
    quantizers: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]
    network_order: tuple[dict[str, Any], ...]
    whole: dict[str, float | None]
    kept_float: tuple[dict[str, Any], ...] = ()
    alternatives: tuple[dict[str, Any], ...] = ()


def examine(
    model: fx.GraphModule, batches: Iterable[Any], *, sensitivity: int | Iterable[Any] = 64
) -> Examination:
    """Measure a quantized network, as `diagnose` says, with what its page shows besides.

    Args:
        model: from `mqbench.prepare`, calibrated, or from `mqbench.convert`.
        batches: as for `diagnose`.
        sensitivity: batches that give the sensitivities, or how many of the first images do; 0 leaves
            them out.

    Raises:
        RequestError: no batch, another kind of network, or a number below 0.
        CalibrationError: a quantizer without parameters.
    """
    first = sensitivity if isinstance(sensitivity, int) else 0
    if isinstance(sensitivity, bool) or first < 0:
        raise RequestError(f"sensitivity_images must be 0 or more, got {sensitivity!r}")
    probe = Probe(model)
    quantizers = {point.name: _OfQuantizer(point) for point in probe.points.values()}
    layers = {layer.name: _OfLayer(layer) for layer in probe.layers}
    whole, images = Score(), 0
    kept = [] if isinstance(sensitivity, int) else list(_chunks(probe, sensitivity))
    for inputs, labels in _chunks(probe, batches):
        found = probe.run(inputs)
        real = probe.run(inputs, probe.removable)
        for quantizer in quantizers.values():
            quantizer.add(probe, real, found, first=not images)
        for layer in layers.values():
            layer.add(real, found)
        whole.add(probe.output(real), probe.output(found), labels)
        if images < first:
            kept.append(_first(first - images, inputs, labels))
        images += len(inputs[0])
    if not images:
        raise RequestError("diagnose needs at least one batch, got none")
    of_quantizers, of_layers = _sensitivities(probe, kept)
    rows = [one.row() | of_quantizers.get(name, _UNKNOWN) for name, one in quantizers.items()]
    layer_rows = [one.row(quantizers) | of_layers.get(name, _UNKNOWN) for name, one in layers.items()]
    order = tuple(layer_rows)
    rows.sort(key=_harm)
    layer_rows.sort(key=_harm)
    return Examination(
        images=images,
        sensitivity_images=sum(len(x[0]) for x, _ in kept),
        quantizers=tuple(rows),
        layers=tuple(layer_rows),
        network_order=order,
        whole={"float_accuracy": whole.float_accuracy, **whole.row()},
        kept_float=tuple(_kept_float(probe, kept, layers, [row["layer"] for row in layer_rows])),
        alternatives=tuple(alternatives(probe, kept, [row["quantizer"] for row in rows][:ALTERNATIVES_OF])),
    )


class _OfQuantizer:
    """Statistics of a quantizer, and how far its result is from the float network's tensor."""

    def __init__(self, point: Point) -> None:
        self.point = point
        self.tally = Tally(point)
        self.accumulated = Likeness()

    def add(self, probe: Probe, real: dict[fx.Node, Any], found: dict[fx.Node, Any], *, first: bool) -> None:
        for x, node in probe.operands(self.point, found):
            if self.point.role == "activation":
                self.accumulated.add(real[node.args[0]], found[node])  # type: ignore[index]
            elif not first or self.tally.count:
                return  # a weight is the same in each batch and call
            self.tally.add(x, node)
        if first and isinstance(self.point.module, DeployedLayer):
            self.tally.add_integers(self.point.module)

    def row(self) -> dict[str, Any]:
        point, scheme = self.point, self.point.scheme
        return {
            "quantizer": point.name,
            "role": point.role,
            "layer": point.layer,
            "bits": scheme.bits,
            "per_channel": scheme.per_channel,
            "symmetric": scheme.symmetric,
            **self.tally.row(),
            "accumulated_sqnr_db": self.accumulated.sqnr_db if point.role == "activation" else None,
        }


class _OfLayer:
    """How far a layer's output is from the float network's."""

    def __init__(self, layer: LayerPoints) -> None:
        self.layer = layer
        self.output = Likeness()

    def add(self, real: dict[fx.Node, Any], found: dict[fx.Node, Any]) -> None:
        self.output.add(real[self.layer.node], found[self.layer.node])

    def row(self, quantizers: dict[str, _OfQuantizer]) -> dict[str, Any]:
        weight = quantizers[f"{self.layer.name}.weight"]
        feeding = next((quantizers[n] for n in self.layer.points if n != weight.point.name), None)
        return {
            "layer": self.layer.name,
            "weight_bits": weight.point.scheme.bits,
            "input_bits": None if feeding is None else feeding.point.scheme.bits,
            "weight_sqnr_db": weight.tally.row()["sqnr_db"],
            "input_sqnr_db": None if feeding is None else feeding.tally.row()["sqnr_db"],
            "output_sqnr_db": self.output.sqnr_db,
            "output_cosine": self.output.cosine,
        }


_UNKNOWN = {f"{which}_{name}": None for which in ("only", "without") for name in Score().row()}


def _sensitivities(
    probe: Probe, chunks: Sequence[Chunk]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Scores with only one quantizer, or only one layer's, and with all but it."""
    groups: dict[tuple[str, str], tuple[str, ...]] = {
        **{("quantizer", name): (name,) for name in probe.points if name in probe.removable},
        **{("layer", layer.name): layer.points for layer in probe.layers if layer.points},
    }
    only = {group: Score() for group in groups}
    without = {group: Score() for group in groups}
    for inputs, labels in chunks:
        found, real = probe.run(inputs), probe.run(inputs, probe.removable)
        expected = probe.output(real)
        for group, names in groups.items():
            alone = probe.again(real, names, probe.removable - set(names))
            only[group].add(expected, alone, labels)
            without[group].add(expected, probe.again(found, names, names), labels)
    rows: dict[str, dict[str, dict[str, Any]]] = {"quantizer": {}, "layer": {}}
    if chunks:
        for kind, name in groups:
            scores = {"only": only[kind, name], "without": without[kind, name]}
            rows[kind][name] = {f"{w}_{k}": v for w, score in scores.items() for k, v in score.row().items()}
    return rows["quantizer"], rows["layer"]


def _kept_float(
    probe: Probe, chunks: Sequence[Chunk], layers: dict[str, _OfLayer], order: list[str]
) -> Iterator[dict[str, Any]]:
    """Scores with the worst layers in float together."""
    counts = [0, *(count for count in KEPT_FLOAT if count < len(order))] if chunks else []
    for count in counts:
        names = {name for layer in order[:count] for name in layers[layer].layer.points}
        score = Score()
        for inputs, labels in chunks:
            expected = probe.output(probe.run(inputs, probe.removable))
            score.add(expected, probe.output(probe.run(inputs, names)), labels)
        yield {"layers": order[:count], "float_accuracy": score.float_accuracy, **score.row()}


def _harm(row: dict[str, Any]) -> float:
    """The lower, the earlier: SQNR of the output with only this, or else of the tensor itself."""
    for name in ("only_sqnr_db", "sqnr_db", "output_sqnr_db"):
        if row.get(name) is not None:
            return float(row[name])
    return float("inf")


def _chunks(probe: Probe, batches: Iterable[Any]) -> Iterator[Chunk]:
    """Batches in parts whose values fit into memory."""
    size = None
    for inputs, labels in batches_of(batches):
        if not inputs or any(not isinstance(x, Tensor) for x in inputs) or not len(inputs[0]):
            raise RequestError("diagnose takes batches of at least one image: tensors, or (images, labels)")
        if size is None:
            one = probe.run(tuple(x[:1] for x in inputs))
            size = max(
                1, VALUES_AT_ONCE // max(1, sum(v.numel() for v in one.values() if isinstance(v, Tensor)))
            )
        for start in range(0, len(inputs[0]), size):
            part = slice(start, start + size)
            yield tuple(x[part] for x in inputs), None if labels is None else labels[part]


def _first(count: int, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Chunk:
    return tuple(x[:count] for x in inputs), None if labels is None else labels[:count]
