"""The paper's Table 7 as plain data: one row per algorithm, one entry in it per inference library."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from mqbench import metrics
from mqbench.metrics import ACADEMIC, Cell
from mqbench.record import FLOAT, Record, Setting

_Table = Mapping[Setting, Mapping[str, Cell]]

_OF_ROW = ("architecture", "dataset", "algorithm", "tool")
_LABELS = {
    "bits": "w{0[0]}a{0[1]}",
    "bn_folding": "fold {}",
    "graph": "graph {}",
    "first_last_bits": "ends {}",
    "weight_calibration": "w:{}",
    "activation_calibration": "a:{}",
    "epochs": "{} ep",
    "learning_rate": "lr {:g}",
    "weight_decay": "wd {:g}",
    "batch_size": "batch {}",
    "float_seed": "float s{}",
}


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row per setting without its seed and backend, as JSON values; percent throughout.

    ``name`` is the algorithm, with the tool if it is another; ``label`` names what differs between rows besides
    that, architecture and dataset. ``backends`` maps each backend to ``mean``, ``spread`` (sample standard
    deviation over seeds), ``gap`` (academic minus it), ``seeds``, ``not_converged``, ``nc_kinds`` (how many of
    which kind), ``failed``, ``deployable``, ``best`` (of its column, among the rows of equal architecture, dataset
    and label) and ``indistinguishable`` (from that best, by paired t tests over the seeds; None where there
    are too few). ``hardware_mean`` and ``hardware_std`` (population) are over the
    ``hardware_count`` backends but academic that have a value. What has no value is None. A float network
    that nothing was quantized from has a row without backends.
    """
    records = list(records)
    quantized = metrics.cells(records)
    table = quantized | _float_only(quantized, records)
    labels = _labels(quantized) | dict.fromkeys(table.keys() - quantized.keys(), "")
    best = _best(table, labels)
    tied = _tied(records, labels)
    networks = _float_accuracies(records)
    return [
        {
            **row.model_dump(mode="json", exclude={"seed", "backend"}),
            "name": row.contestant,
            "label": labels[row],
            "float_accuracy": networks[row.architecture, row.dataset],
            "backends": {
                name: _entry(cell, name, cells.get(ACADEMIC), best[column])
                | {"indistinguishable": tied[column].get(row.contestant)}
                for name, cell in cells.items()
                for column in [_column(row, labels[row], name)]
            },
            **_hardware(cells),
        }
        for row, cells in _sorted(table, labels)
    ]


def averages(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row per algorithm of several architectures, over them, as JSON values (the paper's Table 4).

    ``label`` and the fields of the setting are as in `rows`, without the architecture; ``architectures`` counts
    them. ``backends`` maps each backend to ``mean``, ``std`` (population) and ``count`` of the architectures
    that have a value.
    """
    table = metrics.cells(records)
    labels = _labels(table)
    groups: dict[Setting, list[Setting]] = {}
    for row in table:
        groups.setdefault(row.model_copy(update={"architecture": ""}), []).append(row)
    return [
        {
            **group.model_dump(mode="json", exclude={"architecture", "seed", "backend"}),
            "name": group.contestant,
            "label": labels[members[0]],
            "architectures": len(members),
            "backends": {
                name: asdict(found)
                for name in dict.fromkeys(name for row in members for name in table[row])
                if (
                    found := metrics.architecture_robustness(
                        table[r][name] for r in members if name in table[r]
                    )
                )
            },
        }
        for group, members in groups.items()
        if len(members) > 1
    ]


def _float_only(table: Mapping[Setting, Any], records: Iterable[Record]) -> dict[Setting, dict[str, Cell]]:
    places = {(row.architecture, row.dataset) for row in table}
    settings = (record.setting for record in records if record.setting.algorithm == FLOAT)
    floats = (setting.model_copy(update={"seed": 0}) for setting in settings)
    return {setting: {} for setting in floats if (setting.architecture, setting.dataset) not in places}


def _labels(table: Mapping[Setting, Any]) -> dict[Setting, str]:
    varying = [
        name
        for name in Setting.model_fields
        if name not in _OF_ROW and len({getattr(row, name) for row in table}) > 1
    ]
    return {
        row: " ".join(
            _LABELS.get(name, name + " {}").format(value)
            for name in varying
            if (value := getattr(row, name)) is not None
        )
        for row in table
    }


def _column(row: Setting, label: str, backend: str) -> tuple[str, ...]:
    return (row.architecture, row.dataset, label, backend)


def _best(table: _Table, labels: Mapping[Setting, str]) -> dict[tuple[str, ...], float]:
    best: dict[tuple[str, ...], float] = {}
    for row, cells in table.items():
        for backend, cell in cells.items():
            column = _column(row, labels[row], backend)
            best[column] = max(best.get(column, 0.0), cell.mean or 0.0)
    return best


def _tied(records: Iterable[Record], labels: Mapping[Setting, str]) -> dict[tuple[str, ...], dict[str, bool]]:
    columns: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        setting = record.setting
        if setting.algorithm != FLOAT:
            row = setting.model_copy(update={"seed": 0, "backend": None})
            columns.setdefault(_column(row, labels[row], str(setting.backend)), []).append(record)
    return {column: metrics.indistinguishable(runs) for column, runs in columns.items()}


def _float_accuracies(records: Iterable[Record]) -> dict[tuple[str, str], float | None]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.setting.architecture, record.setting.dataset), []).append(record)
    return {place: metrics.float_accuracy(group) for place, group in groups.items()}


def _entry(cell: Cell, backend: str, academic: Cell | None, best: float) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "spread": cell.spread,
        "gap": None if backend == ACADEMIC else metrics.hardware_gap(academic, cell),
        "seeds": cell.seeds,
        "not_converged": cell.not_converged,
        "nc_kinds": dict(cell.nc_kinds),
        "failed": cell.failed,
        "deployable": cell.deployable,
        "best": cell.mean == best > 0,
    }


def _hardware(cells: Mapping[str, Cell]) -> dict[str, Any]:
    found = metrics.hardware_robustness(cells)
    return {
        "hardware_mean": found.mean if found else None,
        "hardware_std": found.std if found else None,
        "hardware_count": found.count if found else 0,
    }


def _sorted(table: _Table, labels: Mapping[Setting, str]) -> list[tuple[Setting, Mapping[str, Cell]]]:
    """Rows by architecture and dataset, then label, each in the order of their first appearance."""
    places = list(dict.fromkeys((row.architecture, row.dataset) for row in table))
    known = list(dict.fromkeys(labels[row] for row in table))

    def position(item: tuple[Setting, Mapping[str, Cell]]) -> tuple[int, int]:
        row = item[0]
        return places.index((row.architecture, row.dataset)), known.index(labels[row])

    return sorted(table.items(), key=position)
