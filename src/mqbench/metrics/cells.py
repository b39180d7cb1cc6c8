"""Records to cells, hardware gap and robustness (SPEC section 12).

All accuracies are top-1 in percent. A run that did not converge (NC) counts as 0, as in the paper; a run
that failed, or was not made, is missing data and counts as nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, pstdev, stdev

from mqbench.record import FLOAT, Record, Setting

ACADEMIC = "academic"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The runs that differ in nothing but their seed.

    Args:
        mean: accuracy over the seeds that finished; None if none did.
        spread: sample standard deviation of it; None with fewer than two seeds.
        seeds: runs that finished, those not converged among them.
        not_converged, failed: how many of each.
        nc_kinds: how many did not converge in which way, where that is known.
        deployable: all of them are.
    """

    mean: float | None
    spread: float | None
    seeds: int
    not_converged: int
    failed: int
    deployable: bool
    nc_kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_nc(self) -> bool:
        """No seed converged."""
        return 0 < self.seeds == self.not_converged


@dataclass(frozen=True)
class Robustness:
    """Mean and population standard deviation of accuracies, and how many there are."""

    mean: float
    std: float
    count: int


def accuracy(record: Record) -> float | None:
    """What a record counts for: its accuracy, 0 if not converged, None if failed."""
    if record.outcome == "failed":
        return None
    return record.accuracy if record.outcome == "ok" else 0.0


def cell(records: Iterable[Record]) -> Cell:
    """Sum up records of one setting over its seeds."""
    runs = list(records)
    values = [value for run in runs if (value := accuracy(run)) is not None]
    return Cell(
        mean=fmean(values) if values else None,
        spread=stdev(values) if len(values) > 1 else None,
        seeds=len(values),
        not_converged=sum(run.outcome == "not_converged" for run in runs),
        failed=sum(run.outcome == "failed" for run in runs),
        deployable=all(run.deployable for run in runs),
        nc_kinds=dict(Counter(run.nc_kind for run in runs if run.nc_kind).most_common()),
    )


def cells(records: Iterable[Record]) -> dict[Setting, dict[str, Cell]]:
    """The cells of all quantized records: row, then backend.

    A row is a setting without its seed (0) and backend (None).
    """
    grouped: dict[Setting, dict[str, list[Record]]] = {}
    for record in records:
        setting = record.setting
        if setting.algorithm != FLOAT:
            assert setting.backend is not None
            row = setting.model_copy(update={"seed": 0, "backend": None})
            grouped.setdefault(row, {}).setdefault(setting.backend, []).append(record)
    return {
        row: {backend: cell(runs) for backend, runs in by_backend.items()}
        for row, by_backend in grouped.items()
    }


def hardware_gap(academic: Cell | None, hardware: Cell) -> float | None:
    """Academic accuracy minus that on the hardware; None where either is missing or academic is NC."""
    if academic is None or academic.is_nc or academic.mean is None or hardware.mean is None:
        return None
    return academic.mean - hardware.mean


def hardware_robustness(row: Mapping[str, Cell]) -> Robustness | None:
    """Over the hardware settings of a row, which are all but academic; None if there are none."""
    return _robustness(cell for backend, cell in row.items() if backend != ACADEMIC)


def architecture_robustness(cells: Iterable[Cell]) -> Robustness | None:
    """Over the architectures of one algorithm and backend; None if there are none."""
    return _robustness(cells)


def float_accuracy(records: Iterable[Record]) -> float | None:
    """Mean accuracy of the distinct float networks that records are, or start from."""
    networks: dict[Setting, float] = {}
    for record in records:
        own = record.setting.algorithm == FLOAT
        value = accuracy(record) if own else record.float_accuracy
        if value is not None:
            networks[record.setting.float_setting] = value
    return fmean(networks.values()) if networks else None


def _robustness(cells: Iterable[Cell]) -> Robustness | None:
    means = [cell.mean for cell in cells if cell.mean is not None]
    return Robustness(fmean(means), pstdev(means), len(means)) if means else None
