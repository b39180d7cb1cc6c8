"""The ladders that a store holds: ways from one backend to another of which every rung has a record."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import factorial
from statistics import fmean

from mqbench.errors import RequestError
from mqbench.ladder import Ladder, Step, attribute, ladder
from mqbench.metrics import Interval, accuracy, mean_interval
from mqbench.record import FLOAT, OVERRIDES, Record, Setting
from mqbench.report.families import alike

_TURNED = ("graph", "bn_folding", *OVERRIDES)
_EVERY = 120  # orders that are all looked for


@dataclass(frozen=True, kw_only=True)
class Climbed:
    """A ladder whose rungs have records.

    Args:
        ladder: with the orders of which every rung has one.
        steps: what each switch costs in points, the mean over the seeds that all rungs have.
        intervals: of the costs over the seeds; None with one seed.
        start, end: accuracy of the ends, in percent.
        seeds: how many all rungs have.
    """

    ladder: Ladder
    steps: list[Step]
    intervals: dict[str, Interval | None]
    start: float
    end: float
    seeds: int


def climbed(records: Iterable[Record]) -> Iterator[Climbed]:
    """Every way between two backends with all else equal, switches grouped as by ``mqbench ladder``."""
    for runs in _groups(records):
        plain = {s.backend: s for s in runs if all(getattr(s, name) is None for name in _TURNED)}
        started = {s.backend for s in runs if s not in plain.values()}
        for first in (plain[name] for name in plain if name in started):
            for last in plain.values():
                found = _between(first, last, runs) if first != last else None
                if found is not None:
                    yield found


def _groups(records: Iterable[Record]) -> Iterator[dict[Setting, dict[int, float]]]:
    """Accuracy by setting (with seed 0) and seed, of the settings that are equal but for what is turned."""
    groups: dict[Setting, dict[Setting, dict[int, float]]] = {}
    for record in records:
        setting, value = record.setting, accuracy(record)
        if setting.algorithm != FLOAT and value is not None:
            group = groups.setdefault(alike(setting, "backend", "seed", *_TURNED), {})
            group.setdefault(setting.model_copy(update={"seed": 0}), {})[setting.seed] = value
    yield from groups.values()


def _between(first: Setting, last: Setting, runs: dict[Setting, dict[int, float]]) -> Climbed | None:
    try:
        every = ladder(first, last, orders=2)
        if len(every.switches) < 2:
            return None
        if factorial(len(every.switches)) <= _EVERY:
            every = ladder(first, last, orders=None)
        way = every.through(lambda setting: setting in runs)
    except RequestError:  # nothing to switch, or no way of which all rungs are there
        return None
    rungs = way.settings()
    seeds = set.intersection(*(set(runs[rung]) for rung in rungs))
    if not seeds:
        return None
    each = [attribute(way, {rung: runs[rung][seed] for rung in rungs}) for seed in sorted(seeds)]
    means = {rung: fmean(runs[rung][seed] for seed in seeds) for rung in rungs}
    losses = {name: [s.loss for one in each for s in one if s.switch == name] for name in way.switches}
    return Climbed(
        ladder=way,
        steps=attribute(way, means),
        intervals={name: mean_interval(values) for name, values in losses.items()},
        start=means[first],
        end=means[last],
        seeds=len(seeds),
    )
