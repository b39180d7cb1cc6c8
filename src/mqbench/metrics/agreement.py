"""Whether two studies rank the same cells alike: what a small study says about a large one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from mqbench.metrics.cells import Cell, cells
from mqbench.metrics.rank import chance, kendall, spearman
from mqbench.record import Record, Setting

_Columns = Mapping[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Rank correlation over the algorithm x backend cells that two studies share.

    Args:
        tau, rho: Kendall's tau-b and Spearman's rho over all shared cells; None if undefined.
        within_backends: mean tau of the ranking of algorithms on one backend: what to use.
        within_algorithms: mean tau of the ranking of backends for one algorithm.
        chance: the |tau| that 5 % of unrelated rankings of as many cells exceed.
        cells: how many are shared.
    """

    tau: float | None
    rho: float | None
    within_backends: float | None
    within_algorithms: float | None
    chance: float
    cells: int


def agreement(ours: Iterable[Record], theirs: Iterable[Record]) -> Agreement | None:
    """Compare the accuracies of two studies by rank, cell by cell; None with fewer than three in common.

    A cell is an algorithm and a backend at equal bits. Where one study has several values for it (architectures,
    settings), their mean counts. Architecture and dataset are meant to differ: give the records of one
    architecture each to compare these two.
    """
    x, y = _columns(ours), _columns(theirs)
    shared = [place for place in x if place in y]
    if len(shared) < 3:
        return None
    pairs = {(algorithm, backend): (x[place], y[place]) for place in shared for algorithm, backend in [place]}
    return Agreement(
        tau=kendall(*zip(*pairs.values(), strict=True)),
        rho=spearman(*zip(*pairs.values(), strict=True)),
        within_backends=_within(pairs, lambda place: place[1]),
        within_algorithms=_within(pairs, lambda place: place[0]),
        chance=chance(len(shared)),
        cells=len(shared),
    )


def _within(
    pairs: Mapping[tuple[str, str], tuple[float, float]], group: Callable[[tuple[str, str]], str]
) -> float | None:
    groups: dict[str, list[tuple[float, float]]] = {}
    for place, pair in pairs.items():
        groups.setdefault(group(place), []).append(pair)
    taus = [kendall(*zip(*values, strict=True)) for values in groups.values() if len(values) > 1]
    known = [tau for tau in taus if tau is not None]
    return fmean(known) if known else None


def _columns(records: Iterable[Record]) -> _Columns:
    found: dict[tuple[str, str], list[float]] = {}
    table: Mapping[Setting, Mapping[str, Cell]] = cells(records)
    for row, by_backend in table.items():
        assert row.bits is not None
        for backend, cell in by_backend.items():
            if cell.mean is not None:
                place = ("{} w{}a{}".format(row.contestant, *row.bits), backend)
                found.setdefault(place, []).append(cell.mean)
    return {place: fmean(values) for place, values in found.items()}
