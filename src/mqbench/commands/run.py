"""Make the missing runs of a study."""

import os

from rich.console import Console

from mqbench.arguments import Axes
from mqbench.commands._options import NO_AXES, ONE_THREAD, ComputeOptions, Count, Files, Flag, Json
from mqbench.commands._print import show_study
from mqbench.record import Record
from mqbench.store import Store
from mqbench.sweep import sweep

_FAILURES_SHOWN = 5


def run(
    study: str | None = None,
    /,
    *,
    axes: Axes = NO_AXES,
    store: str = "runs",
    jobs: Count | None = None,
    compute: ComputeOptions = ONE_THREAD,
    data: str | None = None,
    executor: str = "local",
    load: Files = (),
    retry_failed: Flag = False,
    as_json: Json = False,
) -> int:
    """Make the missing runs of a study and print its table.

    Args:
        study: A study that ships, or a TOML file; without it and without axes, the default study.
        axes: In place of the study's.
        store: Folder of the records.
        jobs: Runs at a time; the number of cores if not given.
        compute: Of each run.
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
            compute=compute.compute(),
            retry_failed=retry_failed,
            load=load,
        )
    show_study(asked, records, made, missing=0, as_json=as_json)
    return _report_failures(made, records)


def _cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


COMMAND = run
