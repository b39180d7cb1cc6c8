"""A study's missing runs, made by an executor; what fails is recorded, not raised."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from mqbench import catalog
from mqbench.compute import Compute
from mqbench.executors._base import (
    WORK,
    Event,
    Executor,
    Finished,
    Listener,
    Planned,
    Task,
    failed,
    finished,
    resolve,
)
from mqbench.record import FLOAT, Record, Setting
from mqbench.store import Store

_NAMED = {
    "architecture": "architectures",
    "dataset": "data",
    "algorithm": "algorithms",
    "backend": "backends",
    "weight_calibration": "observers",
    "activation_calibration": "observers",
}


def plan(settings: Iterable[Setting]) -> list[Setting]:
    """All runs that settings need, each once: the float networks they start from first."""
    settings = list(dict.fromkeys(settings))
    floats = [setting.float_setting for setting in settings]
    return list(dict.fromkeys([*floats, *(s for s in settings if s.algorithm == FLOAT), *settings]))


def check_names(settings: Iterable[Setting]) -> None:
    """Raise ``UnknownNameError`` for a name that is in no catalog; imports no entry."""
    for field, package in _NAMED.items():
        names = dict.fromkeys(getattr(setting, field) for setting in settings)
        entries: Any = import_module(f"mqbench.{package}")
        for name in names:
            if name is not None and name != FLOAT:
                entries.check(name)


def _check_added(settings: Sequence[Setting]) -> None:
    """Raise ``RequestError`` if a file of the user that is needed cannot be used."""
    for field, package in _NAMED.items():
        entries: Any = import_module(f"mqbench.{package}")
        for name in dict.fromkeys(getattr(setting, field) for setting in settings):
            entries.check_added(name)


def ignore(event: Event) -> None:
    """Listen to nothing."""


def sweep(
    settings: Iterable[Setting],
    store: Store,
    *,
    executor: str = "local",
    jobs: int = 1,
    listener: Listener = ignore,
    data: str | None = None,
    compute: Compute | None = None,
    retry_failed: bool = False,
    load: Sequence[str] = (),
    work: str = WORK,
) -> list[Record]:
    """The records of `plan`, in its order; those that are not in the store are made and put there.

    With several jobs, a script that calls this needs the ``if __name__ == "__main__"`` guard, because the
    worker processes import it.

    Args:
        settings: of the runs; the float networks that they start from are added.
        store: of the records.
        executor: a name of ``mqbench.executors``.
        jobs: runs at a time.
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
    executors: Any = import_module("mqbench.executors")
    start: Callable[[int], Executor] = executors[executor]
    runs = plan(settings)
    check_names(runs)
    if store.exists():
        store.check_readable()
    done: dict[Setting, Record] = {}
    for setting in runs:
        record = finished(store, setting) if retry_failed else store.get(setting)
        if record is not None:
            done[setting] = record
    missing = [setting for setting in runs if setting not in done]
    listener(Planned(len(runs), len(done)))
    if not missing:
        return [done[setting] for setting in runs]

    store.check_writable()
    # Only now, because it imports torch: a study that is done is printed without.
    _check_added(missing)
    resolve(f"{work.partition(':')[0]}:validate")(missing, data)
    store.clean()
    task = Task(
        setting=missing[0],
        store=str(store.root.absolute()),
        data=data,
        compute=compute or Compute(),
        load=tuple(load),
        work=work,
    )
    with start(min(jobs, len(missing))) as pool:
        for record in _make(missing, done, task, pool, listener):
            done[record.setting] = record
            listener(Finished(record))
    return [done[setting] for setting in runs]


def _make(
    missing: Sequence[Setting], done: Mapping[Setting, Record], like: Task, pool: Executor, listener: Listener
) -> Iterator[Record]:
    """Records of the missing runs; ``done`` has each by the time the next one is asked for."""
    floats = [replace(like, setting=setting) for setting in missing if setting.algorithm == FLOAT]
    yield from pool.run(floats, listener)
    ready = []
    for setting in missing:
        if setting.algorithm == FLOAT:
            continue
        network = done[setting.float_setting]
        if network.outcome == "failed":
            record = failed(setting, f"its float network failed: {network.reason}", network.error or "")
            Store(like.store).put(record, replace=True)
            yield record
        else:
            ready.append(replace(like, setting=setting))
    yield from pool.run(ready, listener)
