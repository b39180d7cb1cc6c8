"""Which algorithms differ, by paired t tests over seeds or over cells, corrected for their number."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, stdev
from typing import Literal

from mqbench.metrics import student
from mqbench.metrics.cells import accuracy
from mqbench.record import FLOAT, MQBENCH, Record

Blocks = Mapping[str, Mapping[Hashable, float]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two algorithms, compared on the blocks that both have.

    Args:
        first, second: their names.
        difference: mean of first minus second, in points.
        low, high: its 95 % interval; None with fewer than two blocks.
        p: two-sided, of the paired t test; None with fewer than two blocks.
        adjusted: the same after Holm's correction for all comparisons made together.
        blocks: pairs that were compared.
    """

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    blocks: int

    @property
    def indistinguishable(self) -> bool | None:
        """No difference is shown at 5 %, corrected; None where there is too little to tell."""
        return None if self.adjusted is None else self.adjusted > 0.05


def compare(records: Iterable[Record], over: Literal["seeds", "cells"] = "cells") -> list[Comparison]:
    """Every pair of algorithms.

    Args:
        records: whose algorithms are compared; NC counts as 0, a failed run is missing.
        over: what is paired. ``cells``: the mean over the seeds of one cell (equal architecture, dataset,
            backend and all else but algorithm and seed) is one block; this asks whether a difference would
            hold on other cells. ``seeds``: one run is one block; this asks whether it would hold on other
            seeds of the same cells, so give the records of one cell of each algorithm.
    """
    return paired_tests(blocks(records, over))


def paired_tests(values: Blocks) -> list[Comparison]:
    """Every pair of names, on the blocks that both have; those without a common block are left out."""
    pairs = [pair for a, b in combinations(values, 2) if (pair := _pair(a, values[a], b, values[b]))]
    tested = [pair.p for pair in pairs if pair.p is not None]
    adjusted = iter(holm(tested))
    return [replace(pair, adjusted=None if pair.p is None else next(adjusted)) for pair in pairs]


def blocks(records: Iterable[Record], over: Literal["seeds", "cells"]) -> dict[str, dict[Hashable, float]]:
    """Algorithm to block to accuracy, see `compare`."""
    found: dict[str, dict[Hashable, list[float]]] = {}
    for record in records:
        value = accuracy(record)
        if record.setting.algorithm == FLOAT or value is None:
            continue
        update = {"algorithm": "", "tool": MQBENCH} | ({"seed": 0} if over == "cells" else {})
        place = record.setting.model_copy(update=update)
        found.setdefault(record.setting.contestant, {}).setdefault(place, []).append(value)
    return {
        algorithm: {place: fmean(values) for place, values in by_place.items()}
        for algorithm, by_place in found.items()
    }


def indistinguishable(records: Iterable[Record]) -> dict[str, bool]:
    """Of one column of the table (equal settings but algorithm and seed): the best algorithm's equals.

    An algorithm is marked if a paired t test over the seeds shows no difference from the best at 5 %, after
    Holm's correction for the column. The best itself is marked if any other one is. Empty if there are
    fewer than two common seeds, or one algorithm: one run shows nothing.
    """
    values = blocks(records, "seeds")
    if len(values) < 2:
        return {}
    best = max(values, key=lambda name: fmean(values[name].values()))
    pairs = [
        pair for name in values if name != best and (pair := _pair(best, values[best], name, values[name]))
    ]
    known = [(pair.second, pair.p) for pair in pairs if pair.p is not None]
    if not known:
        return {}
    adjusted = holm([p for _, p in known])
    marks = {name: p > 0.05 for (name, _), p in zip(known, adjusted, strict=True)}
    return marks | {best: any(marks.values())}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the k-th smallest of n times n - k + 1, never falling (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _pair(
    first: str, x: Mapping[Hashable, float], second: str, y: Mapping[Hashable, float]
) -> Comparison | None:
    differences = [x[place] - y[place] for place in x if place in y]
    if not differences:
        return None
    mean, count = fmean(differences), len(differences)
    low = high = p = None
    if count > 1:
        error = stdev(differences) / count**0.5
        half = student.quantile(0.95, count - 1) * error
        low, high = mean - half, mean + half
        # Equal differences in every block: certain if there is one, nothing if there is none.
        p = student.p_value(mean / error, count - 1) if error else float(mean == 0)
    return Comparison(
        first=first, second=second, difference=mean, low=low, high=high, p=p, adjusted=None, blocks=count
    )
