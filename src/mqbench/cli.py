"""The command line: parse, call, print."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

import mqbench
from mqbench import catalog
from mqbench.arguments import Axes, whole
from mqbench.errors import MQBenchError, UnknownNameError
from mqbench.record import Record
from mqbench.record_file import plain
from mqbench.report.rows import averages, rows
from mqbench.report.table import ResultTable
from mqbench.store import Store
from mqbench.study import Study, load_study
from mqbench.study import names as study_names
from mqbench.sweep import check_names, plan, sweep

Whole = Annotated[int, Parameter(converter=whole)]
Count = Annotated[int, Parameter(validator=Number(gte=1), converter=whole)]
Files = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Json = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]

KINDS = {
    "algorithms": "algorithms",
    "backends": "backends",
    "observers": "observers",
    "architectures": "architectures",
    "datasets": "data",
    "foldings": "folding",
    "executors": "executors",
}
NO_AXES = Axes()
_FAILURES_SHOWN = 5

app = App(
    name="mqbench",
    help="A reproducible and deployable benchmark for neural-network quantization.",
    help_format="plaintext",  # the default loads a markdown parser for every --help
    version=mqbench.__version__,
    suppress_keyboard_interrupt=False,
)


@app.command
def run(
    study: str | None = None,
    /,
    *,
    axes: Axes = NO_AXES,
    store: str = "runs",
    jobs: Count | None = None,
    threads: Count = 1,
    data: str | None = None,
    executor: str = "local",
    load: Files = (),
    retry_failed: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    as_json: Json = False,
) -> int:
    """Make the missing runs of a study and print its table.

    Args:
        study: A study that ships, or a TOML file; without it and without axes, the default study.
        axes: In place of the study's.
        store: Folder of the records.
        jobs: Runs at a time; the number of cores if not given.
        threads: Of each run.
        data: Folder of the datasets.
        executor: Where runs are made; see `mqbench list executors`.
        load: Python files that add algorithms, observers and so on.
        retry_failed: Make runs again that have failed.
        as_json: Print JSON.
    """
    from mqbench.progress import Display  # the other commands do not pay for it

    asked = axes.study(study)
    records = Store(store)
    with Display(Console(stderr=True), quiet=as_json) as display:
        made = sweep(
            asked.settings(),
            records,
            executor=executor,
            jobs=jobs or _cores(),
            listener=display,
            data=data,
            threads=threads,
            retry_failed=retry_failed,
            load=load,
        )
    _show(asked, records, made, missing=0, as_json=as_json)
    return _report_failures(made, records)


@app.command
def draw(
    *algorithms: str,
    output: str = "pictures",
    bits: Whole = 3,
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Draw the forward map and gradient of algorithms, one SVG each.

    Args:
        algorithms: Names; all of them if none is given.
        output: Folder of the pictures.
        bits: Of the drawn quantizers, where the algorithm allows it.
        load: Python files that add algorithms.
        as_json: Print JSON.
    """
    from mqbench.report.response import draw as draw_responses
    from mqbench.response import response

    for path in load:
        catalog.load(path)
    names = algorithms or tuple(mqbench.algorithms)
    for name in names:
        mqbench.algorithms.check(name)
    paths = []
    for name in names:
        paths.append(Path(output) / f"{name}.svg")
        draw_responses([response(name, "weight", bits), response(name, "activation", bits)], paths[-1])
    if as_json:
        _print_json([str(path) for path in paths])
    else:
        print(f"{len(paths)} pictures in {output}/")
    return 0


@app.command
def table(
    study: str | None = None,
    /,
    *,
    axes: Axes = NO_AXES,
    store: str = "runs",
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Print the table of a study from its records; nothing is run.

    Args:
        study: A study that ships, or a TOML file; without it and without axes, the default study.
        axes: In place of the study's.
        store: Folder of the records.
        load: Python files that add algorithms, observers and so on.
        as_json: Print JSON.
    """
    for path in load:
        catalog.load(path)
    asked = axes.study(study)
    runs = plan(asked.settings())
    check_names(runs)
    records = Store(store)
    records.check_readable()
    found = [record for setting in runs if (record := records.get(setting)) is not None]
    _show(asked, records, found, missing=len(runs) - len(found), as_json=as_json)
    return 0


@app.command(name="list")
def list_(kind: str | None = None, /, *, load: Files = (), as_json: Json = False) -> int:
    """Print what there is, with one line each.

    Args:
        kind: algorithms, backends, observers, architectures, datasets, foldings, executors or studies.
        load: Python files that add algorithms, observers and so on.
        as_json: Print JSON.
    """
    for path in load:
        catalog.load(path)
    kinds = [*KINDS, "studies"]
    if kind is not None and kind not in kinds:
        raise UnknownNameError("kind", kind, kinds)
    entries = [entry for each in kinds if kind in (None, each) for entry in _entries(each)]
    if as_json:
        _print_json(entries)
        return 0
    grid = Table.grid(padding=(0, 2))
    for entry in entries:
        grid.add_row(*([entry["kind"]] if kind is None else []), entry["name"], entry["description"])
    _console(sys.stdout).print(grid)
    return 0


def _entries(kind: str) -> list[dict[str, str]]:
    describe: Callable[[str], str]
    if kind == "studies":
        names, describe = study_names(), lambda name: load_study(name).title
    else:
        entries: Any = import_module(f"mqbench.{KINDS[kind]}")
        names, describe = list(entries), entries.describe
    return [{"kind": kind, "name": name, "description": describe(name)} for name in names]


def _cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _show(asked: Study, store: Store, records: list[Record], *, missing: int, as_json: bool) -> None:
    total = len(records) + missing
    outcomes = dict.fromkeys(("ok", "not_converged", "failed"), 0) | Counter(r.outcome for r in records)
    if as_json:
        about = {"study": asked.name, "store": str(store.root), "runs": total, "missing": missing}
        listed = [{"key": record.setting.key, **plain(record)} for record in records]
        _print_json(
            {
                **about,
                "outcomes": outcomes,
                "rows": rows(records),
                "averages": averages(records),
                "records": listed,
            }
        )
        return
    console = _console(sys.stdout)
    if asked.title:
        console.print(asked.title, markup=False, soft_wrap=True)
    console.print(ResultTable(rows(records), averages(records)))
    parts = [f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items() if count]
    parts += [f"{missing} missing (mqbench run makes them)"] if missing else []
    text = f"{total} runs: {', '.join(parts)}. Records: {store.root}{os.sep}"
    console.print(text, markup=False, soft_wrap=True)


def _report_failures(records: list[Record], store: Store) -> int:
    failed = [record for record in records if record.outcome == "failed"]
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    for record in failed[:_FAILURES_SHOWN]:
        where = store.root / record.setting.key
        console.print(f"failed: {record.setting}: {record.reason} (traceback in {where})")
    if len(failed) > _FAILURES_SHOWN:
        console.print(f"and {len(failed) - _FAILURES_SHOWN} more")
    if failed:
        console.print("--retry-failed makes failed runs again")
    return 1 if failed else 0


def _console(file: IO[str]) -> Console:
    # A pipe has no width, and a table that is cut or folded for one is of no use to its reader.
    return Console(file=file, highlight=False, width=None if file.isatty() else 10_000)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def _refuse(sentence: str) -> int:
    print("mqbench:", " ".join(sentence.split()), file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done; 1: a run failed; 2: the request cannot be carried out; 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a table has signs that not every encoding has
    try:
        code = app(argv, print_error=False, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
        return code or 0
    except UnusedCliTokensError as error:
        unused = " ".join(error.unused_tokens or ())
        return _refuse(f"unexpected argument {unused!r}; see mqbench --help")
    except CycloptsError as error:
        return _refuse(f"{str(error).rstrip('.')}; see mqbench --help")
    except MQBenchError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("mqbench: interrupted; finished runs are kept, the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has left (`mqbench list | head`); point stdout away so that the exit does not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
