"""Make the missing runs of a study."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from mqbench import catalog
from mqbench.arguments import Axes
from mqbench.commands._options import (
    NO_AXES,
    ONE_THREAD,
    ComputeOptions,
    Count,
    Files,
    Flag,
    Json,
    Pairs,
    pairs,
)
from mqbench.commands._print import print_json, show_costs, show_study
from mqbench.commands._size import check_size, is_large
from mqbench.compute import Compute, is_main_process
from mqbench.record import Record, Setting
from mqbench.store import Store
from mqbench.study import Study
from mqbench.sweep import check_names, executor_of, plan, stream, sweep

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
    executor_option: Pairs = (),
    load: Files = (),
    retry_failed: Flag = False,
    dry_run: Flag = False,
    as_json: Json = False,
) -> int:
    """Make the missing runs of a study and print its table.

    The options from --architecture to --float-batch are the axes of a study:
    several values, separated by commas, in place of its own. Without a study
    they make one; of a single option not given, its default counts.

    Args:
        study: A study that ships, or a TOML file; without it and without axes, the default study.
        axes: In place of the study's.
        store: Folder of the records.
        jobs: Runs at a time; as many as the executor has room for if not given (here: one for each core).
        compute: Of each run.
        data: Folder of the datasets; MQBENCH_DATA if not given.
        executor: Where runs are made; see `mqbench list executors`.
        executor_option: Of the executor, such as num_gpus=1; may be given several times.
        load: Python files that add algorithms, observers and so on.
        retry_failed: Make runs again that have failed.
        dry_run: Say how many runs there are and what each will cost, measured over a few steps; run nothing.
        as_json: Print JSON.

    Examples:
        mqbench run
        mqbench run --algorithm lsq,pact --backend academic,tvm --bits 4 --seeds 0,1
        mqbench run my_study.toml --data ~/data --store runs --jobs 2
        mqbench run cifar10 --data ~/data --dry-run
    """
    from mqbench.progress import Display  # the other commands do not pay for it

    for path in load:
        catalog.load(path)
    asked = axes.study(study)
    records = Store(store)
    check_names(asked.settings().examples())
    if dry_run:
        check_size(asked, "a plan")
        return _plan(asked, records, data=data, compute=compute.compute(), as_json=as_json)
    large = is_large(asked)
    with Display(Console(stderr=True), quiet=as_json or not is_main_process()) as display:
        options: dict[str, Any] = {
            "executor": executor_of(executor, pairs(executor_option)),
            "jobs": jobs,
            "listener": display,
            "data": data,
            "compute": compute.compute(),
            "retry_failed": retry_failed,
            "load": load,
        }
        if large:
            return _count(stream(asked.settings(), records, **options), records, as_json=as_json)
        made = sweep(asked.settings(), records, **options)
    if not is_main_process():
        return _code(made)
    show_study(asked, records, made, missing=0, as_json=as_json)
    _report_failures([record for record in made if record.outcome == "failed"], records)
    return _code(made)


def _code(made: Iterable[Record]) -> int:
    return 1 if any(record.outcome == "failed" for record in made) else 0


def _count(made: Iterable[Record], store: Store, *, as_json: bool) -> int:
    """Say what came of a study that is too large for a table, without holding its records."""
    outcomes: Counter[str] = Counter()
    failures: list[Record] = []
    for record in made:
        outcomes[record.outcome] += 1
        if record.outcome == "failed" and len(failures) <= _FAILURES_SHOWN:
            failures.append(record)
    if as_json:
        print_json({"store": str(store.root), "made": outcomes.total(), "outcomes": outcomes})
    else:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items())
        print(
            f"{outcomes.total()} runs made{': ' if counts else ''}{counts}. Records: {store.root}; see mqbench records"
        )
    _report_failures(failures, store, outcomes["failed"])
    return _code(failures)


def _plan(asked: Study, store: Store, *, data: str | None, compute: Compute, as_json: bool) -> int:
    """Print what the missing runs of a study will cost."""
    from mqbench.estimate import estimate
    from mqbench.task import validate

    runs = plan(asked.settings())
    check_names(runs)
    missing = [setting for setting in runs if not store.exists() or store.get(setting) is None]
    validate(missing, data, compute, need_data=False)
    console = Console(stderr=True, highlight=False)
    with console.status("measuring") as status:

        def tell(setting: Setting) -> None:
            if console.is_terminal:
                status.update(f"measuring {setting}")
            elif not as_json:
                console.print(f"measuring {setting}", soft_wrap=True)

        costs = estimate(missing, data=data, compute=compute, progress=tell)
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


def _report_failures(failures: Sequence[Record], store: Store, count: int | None = None) -> None:
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    for record in failures[:_FAILURES_SHOWN]:
        where = store.root / record.setting.key
        console.print(f"failed: {record.setting}: {record.reason} (traceback in {where})")
    count = len(failures) if count is None else count
    if count > _FAILURES_SHOWN:
        console.print(f"and {count - _FAILURES_SHOWN} more")
    if count:
        console.print("--retry-failed makes failed runs again")


COMMAND = run
