"""Every cell, to be sorted and filtered."""

from typing import Any

from mqbench.report.certificates import words
from mqbench.report.context import Context
from mqbench.report.entries import DEPLOYABILITY, Entry
from mqbench.report.families import backend_name
from mqbench.report.pages._base import Page
from mqbench.report.table import TITLES

ROWS = 200  # that are laid out at first
_OF_NETWORK = ("architecture", "dataset", "algorithm", "backend", "weight_bits", "activation_bits")


def _values(context: Context) -> dict[str, Any]:
    entries = context.entries
    return {
        "entries": entries,
        "most": ROWS,
        "titles": TITLES,
        "others": any(entry.other for entry in entries),
        "deployability": {n: d for n, d in DEPLOYABILITY.items() if any(e.label == n for e in entries)},
        "certificates": [
            {
                "key": key if key in context.by_key else None,
                "folder": one["folder"],
                "network": ", ".join(str(one["network"].get(name, "-")) for name in _OF_NETWORK),
                "words": words(one),
            }
            for key, given in context.certificates.items()
            for one in given
        ],
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
