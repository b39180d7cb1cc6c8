"""What another calibration would do for a quantizer, measured at the output of the network."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from mqbench import observers as observer_catalog
from mqbench.algorithm import fake_quantizer
from mqbench.algorithms._levels import LevelQuantizer
from mqbench.diagnosis.probe import Point, Probe
from mqbench.diagnosis.score import Score
from mqbench.errors import CalibrationError
from mqbench.quantizer import FakeQuantize

PRESENT = "present"
_PLAIN = "ptq"


def alternatives(
    probe: Probe, chunks: Sequence[tuple[tuple[Tensor, ...], Tensor | None]], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Scores of the network with only one quantizer, its range set by each observer from the float values.

    Args:
        probe: the network.
        chunks: inputs and labels.
        names: of the quantizers.
    """
    asked = [probe.points[name] for name in names if _takes_observers(probe.points[name])]
    if not asked or not chunks:
        return
    candidates = {(point.name, name): _begun(point, name) for point in asked for name in observer_catalog}
    for inputs, _ in chunks:
        real = probe.run(inputs, probe.removable)
        for (name, _), candidate in candidates.items():
            for x, _ in probe.operands(probe.points[name], real):
                candidate.observe(x)
    ready = {key: candidate for key, candidate in candidates.items() if _ended(candidate)}
    scores = {(point.name, PRESENT): Score() for point in asked} | {key: Score() for key in ready}
    for inputs, labels in chunks:
        real = probe.run(inputs, probe.removable)
        for (name, observer), score in scores.items():
            instead = {} if observer == PRESENT else {name: ready[name, observer]}
            output = probe.again(real, (name,), probe.removable - {name}, instead)
            score.add(probe.output(real), output, labels)
    for (name, observer), score in scores.items():
        yield {"quantizer": name, "observer": observer, **score.row()}


def _takes_observers(point: Point) -> bool:
    """Its levels are equally spaced between ends that an observer can choose."""
    module = point.module
    if isinstance(module, FakeQuantize):
        return module.uses_observer and not isinstance(module, LevelQuantizer)
    return point.removable


def _begun(point: Point, observer: str) -> FakeQuantize:
    axis = getattr(point.module, "channel_axis", None)
    quantizer = fake_quantizer(_PLAIN, point.role, scheme=point.scheme, channel_axis=axis)
    quantizer.begin_calibration(observer, point.name)
    return quantizer


def _ended(quantizer: FakeQuantize) -> bool:
    try:
        quantizer.end_calibration()
    except CalibrationError:
        return False
    return True
