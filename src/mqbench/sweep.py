"""A study's missing runs, made by an executor; what fails is recorded, not raised."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from mqbench import catalog
from mqbench.claims import Claims
from mqbench.compute import Compute, started_outside
from mqbench.errors import RequestError
from mqbench.executors._base import WORK, Event, Executor, Listener, Task, configured, resolve
from mqbench.grid import Settings
from mqbench.record import Record, Setting
from mqbench.schedule import Schedule, windows
from mqbench.store import Store

_NAMED = {
    "architecture": "architectures",
    "dataset": "data",
    "algorithm": "algorithms",
    "backend": "backends",
    "tool": "tools",
    "weight_calibration": "observers",
    "activation_calibration": "observers",
}


def plan(settings: Iterable[Setting]) -> list[Setting]:
    """All runs that settings need, each once: the float networks they start from first.

    Of more settings than a window has, those of the first window with their float networks come first.
    """
    return [setting for runs, _ in windows(_distinct(settings)) for setting in runs]


def _distinct(settings: Iterable[Setting]) -> Iterable[Setting]:
    return settings if isinstance(settings, Settings) else dict.fromkeys(settings)


def check_names(settings: Iterable[Setting]) -> None:
    """Raise ``UnknownNameError`` for a name that is in no catalog; imports no entry."""
    asked = list(settings)  # which may be made as they are read
    for field, package in _NAMED.items():
        names = dict.fromkeys(getattr(setting, field) for setting in asked)
        entries: Any = import_module(f"mqbench.{package}")
        for name in names:
            if name != Setting.model_fields[field].default:
                entries.check(name)


def _check_added(settings: Sequence[Setting]) -> None:
    """Raise ``RequestError`` if a file of the user that is needed cannot be used."""
    for field, package in _NAMED.items():
        entries: Any = import_module(f"mqbench.{package}")
        for name in dict.fromkeys(getattr(setting, field) for setting in settings):
            entries.check_added(name)


def _check_checkpoints(settings: Iterable[Setting], store: Store, claims: Claims, compute: Compute) -> None:
    """Raise ``RequestError`` for a run that was killed and cannot go on; those at work elsewhere are left to it."""
    for setting in settings:
        path = store.scratch(setting.key)
        if path.exists() and not claims.is_held(setting.key):
            from mqbench.training import (
                check_checkpoint,
            )  # imports torch, and there may be nothing to go on from

            check_checkpoint(path, compute.processes)


def ignore(event: Event) -> None:
    """Listen to nothing."""


def executor_of(name: str, options: Mapping[str, str] = {}) -> Executor:
    """The executor of that name, with options given as text.

    Raises:
        UnknownNameError: no such executor or option.
        RequestError: a value that the option does not take.
    """
    executors: Any = import_module("mqbench.executors")
    return configured(executors[name], options)


def sweep(
    settings: Iterable[Setting],
    store: Store,
    *,
    executor: str | Executor = "local",
    jobs: int | None = 1,
    listener: Listener = ignore,
    data: str | None = None,
    compute: Compute | None = None,
    retry_failed: bool = False,
    load: Sequence[str] = (),
    work: str = WORK,
) -> list[Record]:
    """The records of `plan`, in its order; those that are not in the store are made and put there.

    With several jobs, a script that calls this needs the ``if __name__ == "__main__"`` guard, because the
    worker processes import it. For more records than memory takes there is `stream`.

    Args:
        settings: of the runs; the float networks that they start from are added.
        store: of the records.
        executor: a name of ``mqbench.executors``, or one with its options.
        jobs: runs at a time; None: as many as the executor has room for.
        listener: is told what happens, in this process.
        data: folder of the datasets.
        compute: devices, threads and precision of each run.
        retry_failed: make runs again that have failed.
        load: Python files whose entries are added to the catalogs, here and in the workers.
        work: ``module:function`` that makes a record; the module's ``validate`` looks at settings first.

    Raises:
        RequestError: an unknown name, or choices that cannot work together; nothing was run.
        StoreError: the store cannot be read or written.
    """
    for path in load:
        catalog.load(path)
    runs = plan(settings)
    check_names(runs)
    known: dict[Setting, Record] = {}
    if store.exists():
        store.check_readable()
        known = {setting: record for setting in runs if (record := store.get(setting)) is not None}
    made = stream(
        runs,
        store,
        executor=executor,
        jobs=jobs,
        listener=listener,
        data=data,
        compute=compute,
        retry_failed=retry_failed,
        load=load,
        work=work,
    )
    known.update((record.setting, record) for record in made)
    # what is in neither was made by another sweep after the first look and before the second
    found = (known.get(setting) or store.get(setting) for setting in runs)
    return [record for record in found if record is not None]


def stream(
    settings: Iterable[Setting],
    store: Store,
    *,
    executor: str | Executor = "local",
    jobs: int | None = 1,
    listener: Listener = ignore,
    data: str | None = None,
    compute: Compute | None = None,
    retry_failed: bool = False,
    load: Sequence[str] = (),
    work: str = WORK,
) -> Iterator[Record]:
    """The records that were missing, as they are made or as another sweep makes them.

    Settings that are enumerated as they are read (`Study.settings`) stay so: a window of them is looked at,
    checked and run at a time, and nothing is held but the keys of the records that there were at the start. Of
    the first window everything is checked before anything runs; what cannot run of a later one is a failed
    record. Arguments and errors are those of `sweep`.
    """
    for path in load:
        catalog.load(path)
    kind = executor_of(executor) if isinstance(executor, str) else executor
    compute = compute or Compute()
    if store.exists():
        store.check_readable()
        store.clear_scratch()

    def check(missing: Sequence[Setting]) -> None:
        check_names(missing)
        # Only now, because it imports torch: a study that is done is printed without.
        _check_added(missing)
        resolve(f"{work.partition(':')[0]}:validate")(missing, data, compute)
        _check_checkpoints(missing, store, claims, compute)

    def task(setting: Setting) -> Task:
        return replace(like, setting=setting)

    like = Task(
        setting=Setting(architecture="-", dataset="-"),
        store=str(store.root.absolute()),
        data=data,
        compute=compute,
        load=tuple(load),
        work=work,
    )
    claims = Claims(store.scratch("-").parent, alone=started_outside())
    schedule = Schedule(
        _distinct(settings),
        store,
        task=task,
        claims=claims,
        check=check,
        listener=listener,
        retry_failed=retry_failed,
    )
    missing = schedule.begin()
    if not missing:
        return
    kind.check(compute)
    at_a_time = _at_a_time(kind, jobs, missing)
    if not store.shared and (at_a_time != 1 or kind != executor_of("local")):
        raise RequestError(
            f"no other process sees the records of {store.root}; give --jobs 1, or another store"
        )
    store.check_writable()
    store.clean()
    with claims, kind.open(at_a_time, compute) as pool:
        for record in pool.run(schedule.tasks(), listener):
            schedule.finish(record)
            yield from schedule.settled()
    yield from schedule.settled()


def _at_a_time(kind: Executor, jobs: int | None, missing: int) -> int | None:
    """Runs at a time: no more than there are, and one where every process of a run was started for it."""
    if started_outside():
        if kind != executor_of("local"):
            raise RequestError(
                "processes that torchrun or srun has started make runs together; leave --executor out"
            )
        return 1
    return missing if jobs is None and missing == 1 else jobs and min(jobs, missing)
