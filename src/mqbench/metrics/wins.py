"""In which share of the settings an algorithm is the best; ties are split equally."""

from collections.abc import Container, Iterable, Mapping

from mqbench.metrics.cells import ACADEMIC, Cell, cells, hardware_gap
from mqbench.record import MQBENCH, Record, Setting

_Column = dict[str, float]
_SAME = 1e-9  # of accuracies that were printed equal and subtracted


def accuracy_wins(records: Iterable[Record], backends: Container[str] | None = None) -> dict[str, float]:
    """Share of the hardware settings in which an algorithm has the highest accuracy, as a fraction.

    A hardware setting is what differs in nothing but the algorithm (and the seed), academic left out. A
    setting in which nothing converged has no winner and does not count.

    Args:
        records: of several algorithms.
        backends: only these; None for all hardware.
    """
    return _shares(_columns(records, backends, gaps=False))


def gap_wins(records: Iterable[Record], backends: Container[str] | None = None) -> dict[str, float]:
    """Share of the hardware settings in which an algorithm loses least against its academic accuracy.

    An algorithm that did not converge in the academic setting has no gap. Arguments as `accuracy_wins`.
    """
    return _shares(_columns(records, backends, gaps=True))


def _columns(records: Iterable[Record], backends: Container[str] | None, *, gaps: bool) -> list[_Column]:
    columns: dict[tuple[Setting, str], _Column] = {}
    for row, by_backend in cells(records).items():
        place = row.model_copy(update={"algorithm": "", "tool": MQBENCH})
        for backend, cell in by_backend.items():
            if backend == ACADEMIC or (backends is not None and backend not in backends):
                continue
            value = _merit(by_backend, cell, gaps=gaps)
            if value is not None:
                columns.setdefault((place, backend), {})[row.contestant] = value
    return list(columns.values())


def _merit(by_backend: Mapping[str, Cell], cell: Cell, *, gaps: bool) -> float | None:
    if not gaps:
        return cell.mean or None  # where the best is 0, there is no best
    gap = hardware_gap(by_backend.get(ACADEMIC), cell)
    return None if gap is None else -gap


def _shares(columns: Iterable[_Column]) -> dict[str, float]:
    columns = list(columns)
    shares = {name: 0.0 for column in columns for name in column}
    for column in columns:
        best = max(column.values())
        winners = [name for name, value in column.items() if value >= best - _SAME]
        for name in winners:
            shares[name] += 1 / len(winners) / len(columns)
    return shares
