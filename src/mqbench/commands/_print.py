"""What commands print: JSON for machines, tables that fit their reader."""

import json
import os
import sys
from collections import Counter
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from mqbench.record import Record
from mqbench.record_file import plain
from mqbench.report import footer
from mqbench.report.agreement import AGREEMENT, in_place_of_accuracy
from mqbench.report.rows import averages, rows
from mqbench.report.table import ResultTable
from mqbench.store import Store
from mqbench.study import Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars

    from mqbench.estimate import Cost


def show_study(
    asked: Study,
    store: Store,
    records: list[Record],
    *,
    missing: int,
    as_json: bool,
    agreement: bool = False,
) -> None:
    """Print the table of a study, of accuracies or of agreement with the float network, or all of it as JSON."""
    total = len(records) + missing
    outcomes = dict.fromkeys(("ok", "not_converged", "failed"), 0) | Counter(r.outcome for r in records)
    if as_json:
        about = {"study": asked.name, "store": str(store.root), "runs": total, "missing": missing}
        listed = [{"key": record.setting.key, **plain(record)} for record in records]
        print_json(
            {
                **about,
                "outcomes": outcomes,
                "rows": rows(records),
                "averages": averages(records),
                **footer.facts(records),
                "records": listed,
            }
        )
        return
    console = console_of(sys.stdout)
    if asked.title:
        console.print(asked.title, markup=False, soft_wrap=True)
    if agreement:
        shown = [in_place_of_accuracy(record) for record in records]
        console.print(ResultTable(rows(shown), averages(shown), quantity=AGREEMENT))
    else:
        console.print(ResultTable(rows(records), averages(records)))
        for line in footer.lines(records):
            console.print("")
            console.print(Constrain(Text(line, style="dim"), min(console.width, 100)))
    parts = [f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items() if count]
    parts += [f"{missing} missing (mqbench run makes them)"] if missing else []
    text = f"{total} runs: {', '.join(parts)}. Records: {store.root}{os.sep}"
    console.print(text, markup=False, soft_wrap=True)


def console_of(file: IO[str]) -> Console:
    # A pipe has no width, and a table that is cut or folded for one is of no use to its reader.
    return Console(file=file, highlight=False, width=None if file.isatty() else 10_000)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1))


def show_costs(costs: "Sequence[Cost]", *, total: int) -> None:
    """Print what runs will cost: a row for those that differ in their seed alone."""
    grid = Table(box=None, pad_edge=False)
    for name in ("run", "runs", "steps", "batch", "images/s", "each", "in all"):
        grid.add_column(name, justify="left" if name == "run" else "right")
    named: dict[str, list[Cost]] = {}
    for cost in costs:
        named.setdefault(str(cost.setting).rpartition(" ")[0], []).append(cost)
    for name, same in named.items():
        first = same[0]
        together = sum(cost.seconds for cost in same)
        speed = f"{first.train_images_per_second if first.steps else first.test_images_per_second:.3g}"
        each = duration(together / len(same))
        grid.add_row(
            name, str(len(same)), str(first.steps), str(first.global_batch), speed, each, duration(together)
        )
    console = console_of(sys.stdout)
    console.print(grid)
    seconds = sum(cost.seconds for cost in costs)
    console.print(
        f"{total} runs, {len(costs)} to make: {duration(seconds)} one after the other on a machine like this one",
        soft_wrap=True,
    )


def duration(seconds: float) -> str:
    """A time that a person can judge: 3 s, 5 min, 2.1 h, 14 d."""
    for unit, length, least in (("y", 365.25 * 86400, 2), ("d", 86400, 3), ("h", 3600, 2), ("min", 60, 2)):
        if seconds >= least * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s"


def print_frame(frame: "polars.DataFrame", *, as_json: bool) -> None:
    """Print a frame as lines of text, columns without a value left out, or as a JSON list of its rows."""
    if as_json:
        print_json(frame.to_dicts())
        return
    if not frame.height:
        print("no records")
        return
    shown = [name for name in frame.columns if frame[name].null_count() < frame.height]
    table = Table(*shown, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for values in frame.select(shown).iter_rows():
        table.add_row(*(_cell(value) for value in values))
    console_of(sys.stdout).print(table)


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
