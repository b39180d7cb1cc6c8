"""How far algorithms lie apart, and their means: the paper's Fig. 5 and 6."""

from collections.abc import Iterable
from statistics import fmean, pstdev

from mqbench.metrics.cells import ACADEMIC, cells
from mqbench.record import Record

Place = tuple[str, str]


def spread_across_algorithms(records: Iterable[Record]) -> dict[Place, float]:
    """Population standard deviation over the algorithms, by (architecture, backend), in points (Fig. 5).

    The caption of Fig. 5 says variance; its numbers are standard deviations. NC counts as 0.
    """
    return {
        place: pstdev(by_algorithm.values())
        for place, by_algorithm in _by_place(records).items()
        if len(by_algorithm) > 1
    }


def hardware_means(records: Iterable[Record]) -> dict[Place, float]:
    """Mean over the hardware settings, by (architecture, algorithm), in percent (Fig. 6 left)."""
    return _means(
        ((architecture, algorithm), mean)
        for (architecture, backend), column in _by_place(records).items()
        for algorithm, mean in column.items()
        if backend != ACADEMIC
    )


def architecture_means(records: Iterable[Record]) -> dict[Place, float]:
    """Mean over the architectures, by (backend, algorithm), in percent (Fig. 6 right)."""
    return _means(
        ((backend, algorithm), mean)
        for (_, backend), column in _by_place(records).items()
        for algorithm, mean in column.items()
    )


def _by_place(records: Iterable[Record]) -> dict[Place, dict[str, float]]:
    """Accuracy by (architecture, backend), then algorithm; the mean where other fields differ."""
    found: dict[Place, dict[str, list[float]]] = {}
    for row, by_backend in cells(records).items():
        for backend, cell in by_backend.items():
            if cell.mean is not None:
                column = found.setdefault((row.architecture, backend), {})
                column.setdefault(row.contestant, []).append(cell.mean)
    return {
        place: {algorithm: fmean(values) for algorithm, values in column.items()}
        for place, column in found.items()
    }


def _means(values: Iterable[tuple[Place, float]]) -> dict[Place, float]:
    groups: dict[Place, list[float]] = {}
    for place, value in values:
        groups.setdefault(place, []).append(value)
    return {place: fmean(group) for place, group in groups.items()}
