"""The paper's Table 7 for a terminal, or for a pipe."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from textwrap import wrap as wrapped
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

TITLES = {
    "academic": "Academic",
    "tensorrt": "TensorRT",
    "acl": "ACL",
    "tvm": "TVM",
    "snpe": "SNPE",
    "fbgemm": "FBGEMM",
}


_Rows = Sequence[Mapping[str, Any]]
_Cell = tuple[Text, list[str]]

_NOTHING = {"float_accuracy": None, "hardware_mean": None, "hardware_std": None, "hardware_count": 0}


class ResultTable:
    """A rich renderable of `rows`, in the first of four layouts that the console is wide enough for.

    A line for each row; the same with two lines in a cell; a part for each architecture with its float
    accuracy in the title; a line for each cell. On a terminal the best of a column is bold; elsewhere it
    has a star.
    """

    def __init__(self, rows: _Rows, averages: _Rows = (), *, quantity: str = "Top-1 % on") -> None:
        self.rows = rows
        self.quantity = quantity
        averages = sorted(averages, key=lambda row: str(row["dataset"]))
        self.shown = [*rows, *({"architecture": "Avg. Arch.", **_NOTHING, **row} for row in averages)]
        found = {name for row in rows for name in row["backends"]}
        self.backends = [*(name for name in TITLES if name in found), *sorted(found - set(TITLES))]
        self.seeds = max((_runs(cell) for row in rows for cell in row["backends"].values()), default=0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table and a legend of what occurs in it."""
        star = not console.is_terminal
        endless = options.update(width=10_000)
        layout: Sequence[RenderableType] = ()
        for layout in self._layouts(star=star):
            if all(console.measure(part, options=endless).maximum <= options.max_width for part in layout):
                break
        yield from layout
        yield ""
        yield Constrain(Text(" ".join(self._legend(star=star)), style="dim"), min(options.max_width, 100))

    def _layouts(self, *, star: bool) -> Iterator[Sequence[RenderableType]]:
        yield [self._grid(self.shown, " ", star=star, places=True)]
        yield [self._grid(self.shown, "\n", star=star, places=True)]
        groups = [list(rows) for _, rows in groupby(self.shown, _place)]
        for one in (partial(self._grid, break_="\n", places=False), self._list):
            yield [part for rows in groups for part in (self._title(rows), one(rows, star=star), "")][:-1]

    def _grid(self, rows: _Rows, break_: str, *, star: bool, places: bool) -> Table:
        table = _empty(1 if break_ == " " else 0)
        if places:
            table.add_column("Architecture", no_wrap=True)
            table.add_column("FP", justify="right", no_wrap=True)
        average = ["Avg. HW"] if self.backends else []
        for title in ("Algorithm", *(TITLES.get(name, name) for name in self.backends), *average):
            table.add_column(title, no_wrap=True)
        before = None
        for row in rows:
            if places and before not in (None, _place(row)):
                table.add_section()
            head = [self._name(row), _number(row["float_accuracy"])] if before != _place(row) else ["", ""]
            cells = [self._cell(row, name, star=star) for name in self.backends]
            cells += [self._hardware(row)] if self.backends else []
            texts = [Text(break_).join([value, *map(Text, notes)]) for value, notes in cells]
            algorithm = break_.join([row["name"], *_label(row, wrap=break_ != " ")])
            table.add_row(*(head if places else []), algorithm, *texts)
            before = _place(row)
        return table

    def _list(self, rows: _Rows, *, star: bool) -> Table:
        table = _empty(0)
        for title in ("Algorithm", "Top-1", "Gap"):
            table.add_column(title, overflow="fold", no_wrap=title == "Top-1")
        for row in rows:
            table.add_section()
            for text in (row["name"], *_label(row, wrap=True)):
                table.add_row(text)
            names = [name for name in self.backends if name in row["backends"]]
            lines = [(TITLES.get(name, name), *self._cell(row, name, star=star)) for name in names]
            for name, value, notes in [*lines, *([("Avg. HW", *self._hardware(row))] if lines else [])]:
                table.add_row(f"  {name}", value, " ".join(notes))
        return table

    def _title(self, rows: _Rows) -> Text:
        float_accuracy = rows[0]["float_accuracy"]
        title = Text(self._name(rows[0]), style="bold")
        return title if float_accuracy is None else title.append(f", FP {_number(float_accuracy)}")

    def _name(self, row: Mapping[str, Any]) -> str:
        several = len({other["dataset"] for other in self.rows}) > 1
        return " ".join(_place(row)) if several else str(row["architecture"])

    def _cell(self, row: Mapping[str, Any], backend: str, *, star: bool) -> _Cell:
        """The value, and notes on it."""
        cell = row["backends"].get(backend)
        if cell is None:
            return Text("-"), []
        if "architectures" in row:
            missing = cell["count"] < row["architectures"]
            text = _mean(cell["mean"], cell["std"] if cell["count"] > 1 else None, 1)
            return Text(text), [f"of {cell['count']}"] if missing else []
        nc = 0 < cell["seeds"] == cell["not_converged"]
        value = "NC" if nc else _mean(cell["mean"], cell["spread"], 1) if cell["seeds"] else "failed"
        tied = cell["indistinguishable"] and not cell["best"]
        mark = (
            ("*" if star and cell["best"] else "")
            + ("≈" if tied else "")
            + ("" if cell["deployable"] else "†")
        )
        notes = []
        if cell["gap"] is not None and not nc:
            notes.append(f"({cell['gap']:.1f})")
        if cell["not_converged"] and (not nc or cell["failed"]):
            notes.append(f"NC {cell['not_converged']}/{_runs(cell)}")
        if cell["failed"] and cell["seeds"]:
            notes.append(f"fail {cell['failed']}/{_runs(cell)}")
        if _runs(cell) < self.seeds:
            notes.append(f"n={_runs(cell)}")
        return Text.assemble((value, "bold" if cell["best"] else ""), mark), notes

    def _hardware(self, row: Mapping[str, Any]) -> _Cell:
        text = _mean(row["hardware_mean"], row["hardware_std"] if row["hardware_count"] > 1 else None, 2)
        missing = row["hardware_count"] < len(set(self.backends) - {"academic"})
        return Text(text), [f"of {row['hardware_count']}"] if missing and row["hardware_count"] else []

    def _legend(self, *, star: bool) -> Iterator[str]:
        cells = [cell for row in self.rows for cell in row["backends"].values()]
        datasets = ", ".join(dict.fromkeys(row["dataset"] for row in self.rows))
        if not cells:
            yield f"{self.quantity} {datasets}." if datasets else "No records yet."
            return
        bits = {tuple(row["bits"]) for row in self.rows if row["bits"]}
        at = " at w{}a{}".format(*bits.pop()) if len(bits) == 1 else ""
        over = f": mean±sample std over {self.seeds} seeds" if self.seeds > 1 else ""
        yield f"{self.quantity} {datasets}{at}{over} (hardware gap = Academic - hardware)."
        yield "Avg. HW: mean±population std over the hardware settings."
        among = (
            " among rows that differ in the algorithm alone"
            if len({r["label"] for r in self.rows}) > 1
            else ""
        )
        yield f"{'Star' if star else 'Bold'}: best of the column{among}."
        if any(cell["indistinguishable"] and not cell["best"] for cell in cells):
            yield "≈: not shown to differ from it (paired t test over seeds, 5 %, Holm)."
        if len(self.shown) > len(self.rows):
            yield "Avg. Arch.: mean±population std over the architectures."
        if any(cell["not_converged"] for cell in cells):
            kinds: Counter[str] = sum((Counter(cell["nc_kinds"]) for cell in cells), Counter())
            of = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
            yield f"NC: not converged{f' ({of})' if of else ''}, counts as 0."
        if any(cell["failed"] for cell in cells):
            yield "fail: the run raised; it counts as missing."
        if any(_runs(cell) < self.seeds for cell in cells):
            yield "n: runs there are, where fewer than elsewhere."
        if not all(cell["deployable"] for cell in cells):
            yield "†: simulated only, cannot be deployed."


def _empty(padding: int) -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, padding, 0, 0))


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["architecture"], row["dataset"]


def _label(row: Mapping[str, Any], *, wrap: bool) -> list[str]:
    label: str = row["label"]
    if wrap:
        return wrapped(label, max(14, len(row["name"])), break_long_words=False)
    return [label] if label else []


def _runs(cell: Mapping[str, Any]) -> int:
    return int(cell["seeds"] + cell["failed"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _mean(mean: float | None, spread: float | None, digits: int) -> str:
    return _number(mean) + (f"±{spread:.{digits}f}" if spread is not None else "")
