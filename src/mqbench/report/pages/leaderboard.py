"""Every cell, to be sorted and filtered."""

from typing import Any

from mqbench.report.context import Context
from mqbench.report.entries import DEPLOYABILITY, Entry
from mqbench.report.families import backend_name
from mqbench.report.pages._base import Page
from mqbench.report.table import TITLES


def _values(context: Context) -> dict[str, Any]:
    entries = context.entries
    return {
        "entries": entries,
        "titles": TITLES,
        "others": any(entry.other for entry in entries),
        "deployability": {n: d for n, d in DEPLOYABILITY.items() if any(e.label == n for e in entries)},
        "choices": {
            name: _choices(entries, name)
            for name in ("architecture", "dataset", "backend", "algorithm", "bits", "label")
        },
    }


def _choices(entries: list[Entry], name: str) -> list[tuple[str, str]]:
    found = dict.fromkeys(getattr(entry, name) or "float" for entry in entries)
    return [(value, backend_name(value) if name == "backend" else value) for value in found]


PAGE = Page(
    title="Leaderboard",
    menu="Leaderboard",
    order=10,
    template="leaderboard.html",
    values=_values,
    file="leaderboard.html",
)
