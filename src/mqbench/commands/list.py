"""Print what there is."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from rich.table import Table

from mqbench import catalog
from mqbench.commands._options import Files, Json
from mqbench.commands._print import console_of, print_json
from mqbench.errors import UnknownNameError
from mqbench.study import load_study
from mqbench.study import names as study_names

KINDS = {
    "algorithms": "algorithms",
    "backends": "backends",
    "observers": "observers",
    "architectures": "architectures",
    "datasets": "data",
    "foldings": "folding",
    "executors": "executors",
    "tools": "tools",
    "runtimes": "deploy.runtimes",
    "forms": "deploy.forms",
    "exporters": "deploy.exporters",
    "figures": "report.figures",
    "pages": "report.pages",
}


def list_(kind: str | None = None, /, *, load: Files = (), as_json: Json = False) -> int:
    """Print what there is, with one line each.

    Kinds: algorithms, backends, observers, architectures, datasets, foldings,
    executors, tools, runtimes, forms, exporters, figures (of mqbench draw),
    pages (of mqbench report), studies.

    Args:
        kind: One of these; all of them if not given.
        load: Python files that add algorithms, observers and so on.
        as_json: Print JSON.

    Examples:
        mqbench list
        mqbench list backends
        mqbench list algorithms --load my_algorithm.py --json
    """
    for path in load:
        catalog.load(path)
    kinds = [*KINDS, "studies"]
    if kind is not None and kind not in kinds:
        raise UnknownNameError("kind", kind, kinds)
    entries = [entry for each in kinds if kind in (None, each) for entry in _entries(each)]
    if as_json:
        print_json(entries)
        return 0
    grid = Table.grid(padding=(0, 2))
    for entry in entries:
        grid.add_row(*([entry["kind"]] if kind is None else []), entry["name"], entry["description"])
    console_of(sys.stdout).print(grid)
    for name, description in _open_names(kind).items():  # patterns, not entries: apart from what scripts read
        console_of(sys.stderr).print(f"also {name}: {description}", markup=False, highlight=False)
    return 0


def _entries(kind: str) -> list[dict[str, str]]:
    describe: Callable[[str], str]
    if kind == "studies":
        names, describe = study_names(), lambda name: load_study(name).title
    else:
        entries: Any = import_module(f"mqbench.{KINDS[kind]}")
        names, describe = list(entries), entries.describe
    return [{"kind": kind, "name": name, "description": describe(name)} for name in names]


def _open_names(kind: str | None) -> Mapping[str, str]:
    """How names are written that are not listed."""
    if kind not in KINDS:
        return {}
    entries: Any = import_module(f"mqbench.{KINDS[kind]}")
    return entries.open_names


COMMAND = list_
