"""Whether a ranking of algorithms would come out again with other seeds."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from mqbench.metrics.cells import accuracy
from mqbench.metrics.rank import kendall, ranks, spearman
from mqbench.record import FLOAT, MQBENCH, Record, Setting

_Table = dict[Setting, dict[str, list[float]]]


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How a ranking by mean accuracy varies with the seeds.

    Args:
        ranking: algorithms, the best first.
        tau, rho: mean Kendall and Spearman correlation of a resampled ranking with it.
        first_again: share of the resamples that have the same best algorithm.
        ranks: algorithm to (2.5 %, 97.5 %) of its rank, 1 the best.
        cells, seeds: cells that every algorithm has, and the fewest seeds of one.
        nc_cells: those of the cells that have a run that did not converge, which counts as 0.
    """

    ranking: tuple[str, ...]
    tau: float
    rho: float
    first_again: float
    ranks: dict[str, tuple[float, float]]
    cells: int
    seeds: int
    nc_cells: int = 0

    @property
    def caution(self) -> str:
        """A sentence on what decides such a ranking beside the accuracies, or nothing."""
        return (
            f"In {self.nc_cells} of these cells a run did not converge and counts as 0."
            if self.nc_cells
            else ""
        )


def rank_stability(records: Iterable[Record], *, resamples: int = 1000, seed: int = 0) -> Stability | None:
    """Bootstrap over seeds: each cell draws its runs again, with replacement; its mean is taken anew.

    The ranking is by the mean over the cells that every algorithm has. None if there are fewer than two
    algorithms, no common cell, or a common cell with a single seed, which says nothing about seeds.
    """
    records = list(records)
    table = _common(records)
    names = list(next(iter(table.values()), {}))
    fewest = min((len(values) for cell in table.values() for values in cell.values()), default=0)
    if len(names) < 2 or fewest < 2:
        return None
    draw = random.Random(seed)
    full = [fmean(fmean(cell[name]) for cell in table.values()) for name in names]
    found = [
        [
            fmean(fmean(draw.choices(cell[name], k=len(cell[name]))) for cell in table.values())
            for name in names
        ]
        for _ in range(resamples)
    ]
    order = sorted(range(len(names)), key=lambda i: -full[i])
    orders = [ranks([-value for value in means]) for means in found]
    return Stability(
        ranking=tuple(names[i] for i in order),
        tau=fmean(kendall(full, means) or 0.0 for means in found),
        rho=fmean(spearman(full, means) or 0.0 for means in found),
        first_again=fmean(max(range(len(names)), key=means.__getitem__) == order[0] for means in found),
        ranks={names[i]: _middle([positions[i] for positions in orders]) for i in order},
        cells=len(table),
        seeds=fewest,
        nc_cells=len(
            table.keys() & {_place(record) for record in records if record.outcome == "not_converged"}
        ),
    )


def _common(records: Iterable[Record]) -> _Table:
    """Runs by cell and algorithm, of the cells that every algorithm has."""
    table: _Table = {}
    for record in records:
        value = accuracy(record)
        if record.setting.algorithm != FLOAT and value is not None:
            table.setdefault(_place(record), {}).setdefault(record.setting.contestant, []).append(value)
    every = {name for cell in table.values() for name in cell}
    return {
        place: {name: cell[name] for name in sorted(every)}
        for place, cell in table.items()
        if cell.keys() == every
    }


def _place(record: Record) -> Setting:
    return record.setting.model_copy(update={"algorithm": "", "tool": MQBENCH, "seed": 0})


def _middle(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[round(0.025 * (len(ordered) - 1))], ordered[round(0.975 * (len(ordered) - 1))]
