"""The paper's Table 9: latency by device and precision, with the speed-up over the row before."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from rich import box
from rich.table import Table

from mqbench.latency_record import LatencyRecord

ARCHITECTURES = ("resnet18", "resnet50", "mobilenetv2", "efficientnet_lite0", "regnetx_600mf")  # of Table 9
_PRECISIONS = {"float": "FP32", "int8": "INT8"}


def latency_rows(records: Iterable[LatencyRecord], *, cpu: bool = False) -> list[dict[str, Any]]:
    """One row per batch, engine, threads and precision, as JSON values.

    ``cells`` maps each architecture to ``milliseconds`` (median over runs), ``spread`` (slowest minus
    fastest run), ``speedup`` (float median over this median; None for float, or without a float partner) and
    ``runs``. Rows of float come before those of int8 of the same engine. With ``cpu`` the times are CPU times.
    """

    def median(record: LatencyRecord) -> float:
        return record.cpu_median if cpu else record.median

    def spread(record: LatencyRecord) -> float:
        times = record.cpu_milliseconds if cpu else record.milliseconds
        return max(times) - min(times)

    every = sorted(records, key=lambda r: (r.setting.batch_size, r.setting.runtime, r.setting.key))
    floats = {_pair(record): median(record) for record in every if record.setting.precision == "float"}
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in every:
        setting = record.setting
        place = (
            setting.batch_size, setting.runtime, setting.threads,
            setting.backend, setting.image_size, setting.precision,
        )  # fmt: skip
        row = rows.setdefault(
            place,
            {
                "batch_size": setting.batch_size,
                "device": _device(record),
                "precision": _PRECISIONS[setting.precision],
                "backend": setting.backend,
                "threads": setting.threads,
                "image_size": setting.image_size,
                "cells": {},
            },
        )
        partner = floats.get(_pair(record)) if setting.precision == "int8" else None
        row["cells"][setting.architecture] = {
            "milliseconds": median(record),
            "spread": spread(record),
            "speedup": None if partner is None else partner / median(record),
            "runs": len(record.milliseconds),
        }
    return [rows[place] for place in sorted(rows, key=str)]


def paper_rows() -> list[dict[str, Any]]:
    """The paper's Table 9 in the form of `latency_rows`; its speed-ups are over the row before, as printed."""
    try:
        tables: Any = import_module("mqbench.paper.tables")
    except ImportError:
        return []
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in tables.rows(9):
        more = line.more
        place = (more["images"], more["device"], more["precision"])
        row = rows.setdefault(
            place,
            {"batch_size": place[0], "device": place[1], "precision": place[2], "backend": None, "cells": {}},
        )
        row["cells"][more["architecture"]] = {
            "milliseconds": more["latency_ms"],
            "spread": None,
            "speedup": more["printed_speedup"],
            "runs": 5,
        }
    return list(rows.values())


def latency_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """The rows as a table: a column an architecture, a cell like ``12.3 (2.70)`` in milliseconds.

    Args:
        rows: of `latency_rows`, or the paper's in the same form.
        columns: architectures, in order.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("Batch", "Device", "Precision"):
        table.add_column(title, no_wrap=True)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    before: tuple[Any, Any] = (None, None)
    for row in rows:
        batch, device = row["batch_size"], row["device"]
        if before[0] not in (None, batch):
            table.add_section()
        table.add_row(
            str(batch) if batch != before[0] else "",
            device if (batch, device) != before else "",
            row["precision"],
            *(_cell(row["cells"].get(name)) for name in columns),
        )
        before = (batch, device)
    return table


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["milliseconds"] is None:
        return "-"
    text = f"{cell['milliseconds']:.2f}"
    return text if cell["speedup"] is None else f"{text} ({cell['speedup']:.2f})"


def _pair(record: LatencyRecord) -> tuple[Any, ...]:
    """What the float and the int8 measurement of a network have in common."""
    fields = record.setting.model_dump()
    del fields["precision"]
    return tuple(fields.values())


def _device(record: LatencyRecord) -> str:
    setting = record.setting
    threads = f"{setting.threads} thread" + ("s" if setting.threads > 1 else "")
    return f"{setting.runtime} {record.engine_version}, {threads}"
