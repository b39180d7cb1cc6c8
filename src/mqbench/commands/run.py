"""Make the missing runs of a study."""

import os
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from mqbench import catalog
from mqbench.arguments import Axes
from mqbench.commands._options import NO_AXES, ONE_THREAD, ComputeOptions, Count, Files, Flag, Json
from mqbench.commands._print import print_json, show_costs, show_study
from mqbench.compute import Compute
from mqbench.record import Record
from mqbench.store import Store
from mqbench.study import Study
from mqbench.sweep import check_names, plan, sweep

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
    dry_run: Flag = False,
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
        dry_run: Say how many runs there are and what each will cost, measured over a few steps; run nothing.
        as_json: Print JSON.
    """
    from mqbench.progress import Display  # the other commands do not pay for it

    asked = axes.study(study)
    records = Store(store)
    if dry_run:
        return _plan(asked, records, data=data, compute=compute.compute(), load=load, as_json=as_json)
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


def _plan(
    asked: Study, store: Store, *, data: str | None, compute: Compute, load: Sequence[str], as_json: bool
) -> int:
    """Print what the missing runs of a study will cost."""
    from mqbench.estimate import estimate
    from mqbench.task import validate

    for path in load:
        catalog.load(path)
    runs = plan(asked.settings())
    check_names(runs)
    missing = [setting for setting in runs if not store.exists() or store.get(setting) is None]
    validate(missing, data, need_data=False)
    console = Console(stderr=True, highlight=False)
    costs = []
    with console.status("measuring") as status:
        costs = estimate(
            missing, data=data, compute=compute, progress=lambda s: status.update(f"measuring {s}")
        )
    if as_json:
        listed = [
            {**asdict(cost), "setting": cost.setting.model_dump(mode="json"), "seconds": cost.seconds}
            for cost in costs
        ]
        total = sum(cost.seconds for cost in costs)
        print_json(
            {
                "study": asked.name,
                "runs": len(runs),
                "missing": len(missing),
                "seconds": total,
                "costs": listed,
            }
        )
        return 0
    show_costs(costs, total=len(runs))
    return 0


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
