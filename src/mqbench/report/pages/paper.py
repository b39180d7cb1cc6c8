"""The paper's tables with ours beside them, our networks in the shape of its Table 7, and its claims recomputed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mqbench import metrics, paper
from mqbench.metrics import ACADEMIC
from mqbench.paper.beside import Beside, identity
from mqbench.record import Record, Setting
from mqbench.report.context import Context
from mqbench.report.families import backend_name, bits_name
from mqbench.report.pages._base import Page

_NAMES = {
    "bn_folding": "folding",
    "quantizer_weight_decay": "L2 of the scales",
    "weight_calibration": "weights",
    "activation_calibration": "activations",
    "architecture": "network",
}


@dataclass(frozen=True, kw_only=True)
class _Table:
    """How a table of the paper is laid out: fields of a row, and of a column."""

    number: int
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]


_TABLES = (
    _Table(number=4, title="academic setting", rows=("architecture",), columns=("algorithm",)),
    _Table(
        number=5, title="BN folding", rows=("architecture", "algorithm"), columns=("bn_folding", "sync_bn")
    ),
    _Table(number=6, title="graphs", rows=("architecture", "algorithm"), columns=("graph",)),
    _Table(number=7, title="hardware settings", rows=("architecture", "algorithm"), columns=("backend",)),
    _Table(number=8, title="L2 of the scales", rows=("architecture",), columns=("quantizer_weight_decay",)),
    _Table(
        number=10,
        title="post-training quantization",
        rows=("architecture", "bits", "activation_calibration", "weight_calibration"),
        columns=("backend",),
    ),
    _Table(
        number=11,
        title="initialisation",
        rows=("architecture", "backend", "activation_calibration", "weight_calibration"),
        columns=("algorithm", "bn_calibration"),
    ),
)


def _values(context: Context) -> dict[str, Any]:
    shared = paper.beside(context.quantized)
    ours: dict[Setting, Beside] = {}
    for cell in sorted(shared, key=lambda c: (len(c.unlike), -c.seeds)):
        ours.setdefault(identity(cell.setting), cell)
    claims = paper.recompute()
    verdicts = Counter(claim.verdict for claim in claims)
    return {
        "found": _found(shared),
        "unlike": list(dict.fromkeys(name.replace("_", " ") for c in shared for name in c.unlike)),
        "tables": [_laid_out(table, ours) for table in _TABLES],
        "elsewhere": list(_elsewhere(context.quantized)),
        "claims": claims,
        "verdicts": f"{len(claims)} claims: " + ", ".join(f"{n} {v}" for v, n in verdicts.items()) + ".",
    }


def _found(shared: Sequence[Beside]) -> str:
    if not shared:
        return "The store has none of these cells; mqbench run paper/table7 --data FOLDER makes those of Table 7."
    off = [cell.difference for cell in shared]
    return (
        f"The store has {len(shared)} cells that the paper has too: {fmean(off):+.2f} points from it in the mean, "
        f"from {min(off):+.2f} to {max(off):+.2f}."
    )


def _laid_out(table: _Table, ours: dict[Setting, Beside]) -> dict[str, Any]:
    cells: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for record in paper.records(table.number):
        setting = record.setting
        row = tuple(_shown(setting, name) for name in table.rows)
        cells.setdefault(row, {})[_column(setting, table.columns)] = {
            "papers": metrics.accuracy(record),
            "nc": record.outcome == "not_converged",
            "ours": ours.get(identity(setting)),
        }
    columns = list(dict.fromkeys(name for row in cells.values() for name in row))
    every = [cell for row in cells.values() for cell in row.values()]
    return {
        "number": table.number,
        "title": table.title,
        "head": [_NAMES.get(name, name) for name in table.rows],
        "columns": columns,
        "rows": [(row, [found.get(name) for name in columns]) for row, found in cells.items()],
        "cells": len(every),
        "shared": sum(cell["ours"] is not None for cell in every),
    }


def _shown(setting: Setting, name: str) -> str:
    value = getattr(setting, name)
    if name == "bits":
        return bits_name(value)
    return backend_name(value) if name == "backend" else "-" if value is None else str(value)


def _column(setting: Setting, names: tuple[str, ...]) -> str:
    match names:
        case ("bn_folding", "sync_bn"):
            return f"{setting.bn_folding}{'' if setting.sync_bn else '*'}"
        case ("algorithm", "bn_calibration"):
            calibrated = "BN calibrated" if setting.bn_calibration else "calibrated"
            return "trained" if setting.algorithm != "ptq" else calibrated
        case ("graph",):
            return f"graph {setting.graph}"
        case ("quantizer_weight_decay",):
            return f"{setting.quantizer_weight_decay:g}"
        case (name,):
            return _shown(setting, name)
    raise AssertionError(names)


def _elsewhere(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Gaps of networks beside the mean gap of the paper's, where both have one."""
    theirs: dict[tuple[str, str], list[float]] = {}
    for row, by_backend in metrics.cells(paper.records(7)).items():
        for backend, gap in _gaps(by_backend):
            theirs.setdefault((row.algorithm, backend), []).append(gap)
    for row, by_backend in metrics.cells(records).items():
        if row.bits != (4, 4):
            continue
        lines = [
            (row.algorithm, backend_name(backend), fmean(theirs[row.algorithm, backend]), gap)
            for backend, gap in _gaps(by_backend)
            if (row.algorithm, backend) in theirs
        ]
        if lines:
            yield _part(row, lines)


def _part(row: Setting, lines: list[tuple[str, str, float, float]]) -> dict[str, Any]:
    from mqbench.report.families import described

    title = described(row, leave_out=("backend", "seed"))
    return {
        "title": f"Hardware gap in points, {title}",
        "head": ("algorithm", "backend", "the paper's mean", "ours", "difference"),
        "rows": [(*line, line[3] - line[2]) for line in lines],
    }


def _gaps(by_backend: dict[str, metrics.Cell]) -> Iterator[tuple[str, float]]:
    for backend, cell in by_backend.items():
        gap = metrics.hardware_gap(by_backend.get(ACADEMIC), cell)
        if backend != ACADEMIC and gap is not None and not cell.is_nc:
            yield backend, gap


PAGE = Page(
    title="The paper beside ours",
    menu="Paper",
    order=20,
    template="paper.html",
    values=_values,
    file="paper.html",
)
