"""What the records say, and a table of each network as in the paper's Table 7."""

from collections import Counter
from itertools import groupby
from typing import Any

from mqbench.record import Record
from mqbench.report.context import Context
from mqbench.report.entries import other_of
from mqbench.report.headlines import headlines
from mqbench.report.pages._base import Page
from mqbench.report.table import TITLES

_TABLES = 8


def _values(context: Context) -> dict[str, Any]:
    parts, alone = _tables(context.rows)
    return {
        "facts": _facts(context.records),
        "headlines": headlines(context, context.entries),
        "tables": parts[:_TABLES],
        "hidden": max(0, len(parts) - _TABLES),
        "alone": alone,
        "titles": TITLES,
    }


def _facts(records: list[Record]) -> list[tuple[str, str]]:
    outcomes = Counter(record.outcome for record in records)
    settings = [record.setting for record in records]
    found = [("runs", len(records))]
    found += [
        (f"{kind}s" if len(values) != 1 else kind, len(values))
        for kind in ("algorithm", "backend", "architecture", "dataset")
        if (values := {getattr(s, kind) for s in settings} - {None, "float"})
    ]
    found += [("not converged", outcomes["not_converged"]), ("failed", outcomes["failed"])]
    minutes = sum(r.provenance.seconds for r in records if r.provenance) / 60
    time = ("hours", minutes / 60) if minutes >= 60 else ("minutes", minutes)
    return [*((name, f"{count:,}") for name, count in found), (f"{time[0]} of computing", f"{time[1]:,.1f}")]


def _tables(every: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """One for each network, data and bit width, largest first; and the cells that have nothing to stand beside."""
    parts, alone = [], 0
    for (architecture, dataset, bits), group in groupby(sorted(every, key=_place), key=_place):
        members = []
        rows = sorted((row | {"other": other_of(row)} for row in group), key=lambda row: row["other"])
        for _, like in groupby(rows, key=lambda row: row["other"]):
            found = sorted(like, key=lambda row: -(row["hardware_mean"] or 0))
            if len(found) > 1 or len(found[0]["backends"]) > 1:
                members += found
            else:
                alone += 1
        if not members:
            continue
        present = {name for row in members for name in row["backends"]}
        parts.append(
            {
                "title": f"{architecture} on {dataset}, {'w{}a{}'.format(*bits)}",
                "dataset": dataset,
                "float": members[0]["float_accuracy"],
                "backends": [*(b for b in TITLES if b in present), *sorted(present - set(TITLES))],
                "others": any(row["other"] for row in members),
                "rows": members,
            }
        )
    return sorted(parts, key=lambda part: -len(part["rows"])), alone


def _place(row: dict[str, Any]) -> tuple[str, str, list[int]]:
    return row["architecture"], row["dataset"], row["bits"]


PAGE = Page(
    title="Overview", menu="Overview", order=0, template="overview.html", values=_values, file="index.html"
)
