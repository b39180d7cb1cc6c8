"""What commands print: JSON for machines, tables that fit their reader."""

import json
import os
import sys
from collections import Counter
from typing import IO, Any

from rich.console import Console

from mqbench.record import Record
from mqbench.record_file import plain
from mqbench.report.rows import averages, rows
from mqbench.report.table import ResultTable
from mqbench.store import Store
from mqbench.study import Study


def show_study(asked: Study, store: Store, records: list[Record], *, missing: int, as_json: bool) -> None:
    """Print the table of a study, or the same as JSON."""
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
                "records": listed,
            }
        )
        return
    console = console_of(sys.stdout)
    if asked.title:
        console.print(asked.title, markup=False, soft_wrap=True)
    console.print(ResultTable(rows(records), averages(records)))
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
