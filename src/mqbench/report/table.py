"""The paper's Table 7 for a terminal, or for a pipe."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
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


class ResultTable:
    """A rich renderable of `rows`: one line per cell where the console is wide enough, else two.

    On a terminal the best of a column is bold; elsewhere it has a star.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows
        found = {name for row in rows for name in row["backends"]}
        self.backends = [*(name for name in TITLES if name in found), *sorted(found - set(TITLES))]
        self.seeds = max((_runs(cell) for row in rows for cell in row["backends"].values()), default=0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table and a legend of what occurs in it."""
        star = not console.is_terminal
        table = self._table(" ", star=star)
        if console.measure(table, options=options.update(width=10_000)).maximum > options.max_width:
            table = self._table("\n", star=star)
        yield table
        yield ""
        yield Constrain(Text(" ".join(self._legend(star=star)), style="dim"), min(options.max_width, 100))

    def _table(self, break_: str, *, star: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1 if break_ == " " else 0, 0, 0))
        table.add_column("Architecture", overflow="fold")
        table.add_column("FP", justify="right", overflow="fold")
        table.add_column("Algorithm", overflow="fold")
        for name in self.backends:
            table.add_column(TITLES.get(name, name), overflow="fold")
        if self.backends:
            table.add_column("Avg. HW", overflow="fold")
        before = None
        for row in self.rows:
            place = (row["architecture"], row["dataset"])
            if before not in (None, place):
                table.add_section()
            head = ["", ""] if place == before else [self._place(row), _number(row["float_accuracy"])]
            cells = [self._cell(row["backends"].get(name), break_, star=star) for name in self.backends]
            label = break_ + row["label"] if row["label"] else ""
            average = [self._hardware(row, break_)] if self.backends else []
            table.add_row(*head, row["algorithm"] + label, *cells, *average)
            before = place
        return table

    def _place(self, row: Mapping[str, Any]) -> str:
        several = len({other["dataset"] for other in self.rows}) > 1
        return f"{row['architecture']} {row['dataset']}" if several else str(row["architecture"])

    def _cell(self, cell: Mapping[str, Any] | None, break_: str, *, star: bool) -> Text:
        if cell is None:
            return Text("-")
        nc = 0 < cell["seeds"] == cell["not_converged"]
        value = "NC" if nc else _mean(cell["mean"], cell["spread"], 1) if cell["seeds"] else "failed"
        mark = ("*" if star and cell["best"] else "") + ("" if cell["deployable"] else "†")
        notes = []
        if cell["gap"] is not None and not nc:
            notes.append(f"({cell['gap']:.1f})")
        if cell["not_converged"] and (not nc or cell["failed"]):
            notes.append(f"NC {cell['not_converged']}/{_runs(cell)}")
        if cell["failed"] and cell["seeds"]:
            notes.append(f"fail {cell['failed']}/{_runs(cell)}")
        if _runs(cell) < self.seeds:
            notes.append(f"n={_runs(cell)}")
        second = "".join(break_ + note for note in notes)
        return Text.assemble((value, "bold" if cell["best"] else ""), mark, second)

    def _hardware(self, row: Mapping[str, Any], break_: str) -> str:
        text = _mean(row["hardware_mean"], row["hardware_std"] if row["hardware_count"] > 1 else None, 2)
        missing = row["hardware_count"] < len(set(self.backends) - {"academic"})
        return f"{text}{break_}of {row['hardware_count']}" if missing and row["hardware_count"] else text

    def _legend(self, *, star: bool) -> Iterator[str]:
        cells = [cell for row in self.rows for cell in row["backends"].values()]
        datasets = ", ".join(dict.fromkeys(row["dataset"] for row in self.rows))
        if not cells:
            yield f"Top-1 % on {datasets}." if datasets else "No records yet."
            return
        bits = {tuple(row["bits"]) for row in self.rows if row["bits"]}
        at = " at w{}a{}".format(*bits.pop()) if len(bits) == 1 else ""
        over = f": mean±sample std over {self.seeds} seeds" if self.seeds > 1 else ""
        yield f"Top-1 % on {datasets}{at}{over} (hardware gap = Academic - hardware)."
        yield "Avg. HW: mean±population std over the hardware settings."
        yield f"{'Star' if star else 'Bold'}: best of the column."
        if any(cell["not_converged"] for cell in cells):
            yield "NC: not converged, counts as 0."
        if any(cell["failed"] for cell in cells):
            yield "fail: the run raised; it counts as missing."
        if any(_runs(cell) < self.seeds for cell in cells):
            yield "n: runs there are, where fewer than elsewhere."
        if not all(cell["deployable"] for cell in cells):
            yield "†: simulated only, cannot be deployed."


def _runs(cell: Mapping[str, Any]) -> int:
    return int(cell["seeds"] + cell["failed"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _mean(mean: float | None, spread: float | None, digits: int) -> str:
    return _number(mean) + (f"±{spread:.{digits}f}" if spread is not None else "")
