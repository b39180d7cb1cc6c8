"""Latency against accuracy: what is worth its time."""

from collections.abc import Iterable, Iterator
from typing import Any

from mqbench import metrics, paper
from mqbench.latency_record import LatencyRecord
from mqbench.paper import tables
from mqbench.record import Record
from mqbench.report.charts.scatter import Point, front, scatter
from mqbench.report.context import Context
from mqbench.report.families import bits_name
from mqbench.report.latency import latency_rows, paper_rows
from mqbench.report.pages._base import Page
from mqbench.report.picture import Picture

_BACKENDS = {"Snapdragon 845": "snpe", "Intel i7-6700": "fbgemm"}  # of Table 9 that Table 10 has
_PAPERS = "the paper's devices, batch 1"


def _values(context: Context) -> dict[str, Any]:
    known = _accuracies(context.records)
    placed: dict[str, list[Point]] = {}
    unplaced: dict[str, None] = {}
    for record in context.latencies:
        points = list(_points(record, known))
        for picture, point in points:
            placed.setdefault(picture, []).append(point)
        if not points:
            unplaced[_network(record)] = None
    pictures = [_picture(name, points) for name, points in placed.items()]
    parts = []
    for title, rows in (
        ("Measured here", latency_rows(context.latencies)),
        ("The paper's Table 9", paper_rows()),
    ):
        if rows:
            parts.append(_table(title, rows))
    return {
        "pictures": [*pictures, _picture(_PAPERS, list(_papers()))],
        "measured": bool(context.latencies),
        "unplaced": list(unplaced),
        "parts": parts,
    }


def _accuracies(
    records: Iterable[Record],
) -> dict[tuple[str, str | None], dict[tuple[str, str], tuple[float, str]]]:
    """(network, backend) to (data, bits) to the best accuracy and its algorithm; float has no backend."""
    found: dict[tuple[str, str | None], dict[tuple[str, str], tuple[float, str]]] = {}
    records = list(records)
    places = dict.fromkeys((r.setting.architecture, r.setting.dataset) for r in records)
    for architecture, dataset in places:
        own = [r for r in records if (r.setting.architecture, r.setting.dataset) == (architecture, dataset)]
        value = metrics.float_accuracy(own)
        if value is not None:
            found.setdefault((architecture, None), {})[dataset, "float"] = (value, "float")
    for row, by_backend in metrics.cells(records).items():
        for backend, cell in by_backend.items():
            best = found.setdefault((row.architecture, backend), {})
            place = (row.dataset, bits_name(row.bits))
            if cell.mean and cell.mean > best.get(place, (0.0, ""))[0] and cell.deployable:
                best[place] = (cell.mean, row.algorithm)
    return found


def _points(record: LatencyRecord, known: Any) -> Iterator[tuple[str, Point]]:
    setting = record.setting
    backend = None if setting.precision == "float" else setting.backend
    for (dataset, bits), (accuracy, algorithm) in known.get((setting.architecture, backend), {}).items():
        threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
        name = (
            f"{setting.architecture} float"
            if backend is None
            else f"{setting.architecture} {bits} {algorithm}"
        )
        where = (
            f"{dataset}, batch {setting.batch_size}, {setting.image_size} x {setting.image_size}, {threads}"
        )
        yield where, Point(name=name, series=setting.runtime, x=record.median, y=accuracy)


def _papers() -> Iterator[Point]:
    floats = {r.setting.architecture: r.float_accuracy for r in paper.records(7)}
    ints: dict[tuple[str, str | None], float] = {}
    for record in paper.records(10):
        setting, value = record.setting, metrics.accuracy(record) or 0.0
        if setting.bits == (8, 8):
            place = (setting.architecture, setting.backend)
            ints[place] = max(value, ints.get(place, 0.0))
    for row in tables.rows(9):
        more = row.more
        name, device = str(more["architecture"]), str(more["device"])
        if more["images"] != 1 or more["latency_ms"] is None or device not in _BACKENDS:
            continue
        integer = more["precision"] == "INT8"
        y = ints.get((name, _BACKENDS[device])) if integer else floats.get(name)
        if y is not None and more["precision"] in ("FP32", "INT8"):
            said = f"{name} {'w8a8 ptq' if integer else 'float'}"
            yield Point(name=said, series=device, x=float(more["latency_ms"]), y=y)


def _picture(where: str, points: list[Point]) -> Picture:
    best = front(points)
    title = f"Accuracy over latency: {where}"
    return Picture(
        title=title,
        svg=scatter(points, x="latency of a batch, ms", y="accuracy, %", says=title),
        head=("network", "engine", "latency, ms", "accuracy, %", "on the front"),
        rows=tuple((p.name, p.series, p.x, p.y, "yes" if p in best else "no") for p in points),
    )


def _table(title: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    lines = [
        (
            name,
            row["device"],
            row["batch_size"],
            row["precision"],
            cell["milliseconds"],
            cell["spread"],
            cell["speedup"],
        )
        for row in rows
        for name, cell in row["cells"].items()
    ]
    return {
        "title": title,
        "caption": f"{title}: milliseconds of a batch, slowest minus fastest run, speed-up over float",
        "head": ("network", "device", "batch", "precision", "ms", "spread, ms", "speed-up"),
        "rows": lines,
    }


def _network(record: LatencyRecord) -> str:
    setting = record.setting
    if setting.precision == "float":
        return f"{setting.architecture} float"
    return f"{setting.architecture} on {setting.backend}"


PAGE = Page(
    title="Latency and accuracy",
    menu="Latency",
    order=40,
    template="latency.html",
    values=_values,
    file="latency.html",
)
