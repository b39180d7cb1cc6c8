"""What an executor promises, and the one task that all of them carry out."""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from textwrap import shorten
from typing import Any, Protocol, Self

from pydantic import TypeAdapter, ValidationError

from mqbench.catalog import load
from mqbench.compute import Compute
from mqbench.errors import RequestError, UnknownNameError, UnwritableError
from mqbench.record import Record, Setting
from mqbench.store import Store

WORK = "mqbench.runner:run"
_REASON_LENGTH = 400


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run, as it travels to the process that makes it.

    Args:
        setting: what to run.
        store: absolute path of the folder that takes the record.
        data: folder of the datasets, if given.
        compute: devices, threads and precision of the run.
        load: files of the user that add to the catalogs.
        work: ``module:function`` that makes the record.
    """

    setting: Setting
    store: str
    data: str | None = None
    compute: Compute = field(default_factory=Compute)
    load: tuple[str, ...] = ()
    work: str = WORK


@dataclass(frozen=True)
class Planned:
    """Runs there are, and how many of them have a record already.

    A sweep begins with it. Of a large study it says what is known ``so_far``, and comes again with more.
    """

    total: int
    done: int
    so_far: bool = False


@dataclass(frozen=True)
class Started:
    """A run begins, or begins again after its process died."""

    setting: Setting


@dataclass(frozen=True)
class Lost:
    """The process of a run is gone; the run will begin again. ``cause`` says how it went, as far as is known."""

    setting: Setting
    cause: str


@dataclass(frozen=True)
class Progress:
    """A run is at ``done`` of ``total`` steps of a phase."""

    setting: Setting
    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A run has its record."""

    record: Record


Event = Planned | Started | Lost | Progress | Finished
Listener = Callable[[Event], None]


class Pool(Protocol):
    """Carries out tasks, in this process or others.

    ``run`` takes a task from ``tasks`` when it can start one, so an endless stream is held nowhere. None in
    it means that none can start yet, because it waits for a record; the pool asks again after each record and
    every second or so. Every task yields exactly one record, as soon as it is made, in any order; the record is
    in the store by then. A task whose process dies is tried once more, then recorded as failed. ``run`` emits
    ``Started``, ``Lost`` and ``Progress``. A ``StoreError`` of `perform` ends it. Leaving the context ends every
    process that it started, but for those that are meant to outlive this one (Slurm jobs).
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def run(self, tasks: Iterator[Task | None], listener: Listener) -> Iterator[Record]:
        """Records of the tasks, as they are made."""
        ...


class Executor(ABC):
    """Where runs are made: a frozen dataclass of options, all with defaults, that opens pools."""

    @abstractmethod
    def check(self, compute: Compute) -> None:
        """Raise ``RequestError`` if runs of this kind cannot be made here; starts nothing."""

    @abstractmethod
    def open(self, jobs: int | None, compute: Compute) -> Pool:
        """A pool for at most so many runs at a time, each with what ``compute`` says; None: as many as fit."""


def configured(kind: type[Executor], options: Mapping[str, str]) -> Executor:
    """An executor with options that are given as text.

    Raises:
        UnknownNameError: an option that it does not have.
        RequestError: a value that the option does not take.
    """
    allowed = [option.name for option in fields(kind)]  # type: ignore[arg-type]
    for name in options:
        if not allowed:
            raise RequestError(f"the executor takes no options, got {name!r}")
        if name not in allowed:
            raise UnknownNameError("executor option", name, allowed)
    try:
        made: Executor = TypeAdapter(kind).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RequestError(
            f"executor option {name}: {first['msg'].lower()}, got {first['input']!r}"
        ) from None
    return made


def perform(task: Task, listener: Listener) -> Record:
    """Make the record of a task and see that it is in the store; what the run raises is its outcome.

    Raises:
        StoreError: nothing, or not even a failure, can be recorded; to go on would waste all further compute.
    """
    store = Store(task.store)

    def progress(phase: str, done: int, total: int) -> None:
        listener(Progress(task.setting, phase, done, total))

    try:
        made = finished(store, task.setting)
        if made is not None:  # before its process died, or by another sweep
            return made
        for path in task.load:
            load(path)
        work = resolve(task.work)
        options = {"store": store, "data": task.data, "compute": task.compute, "progress": progress}
        record: Record = work(task.setting, **options)
        assert record.setting == task.setting, f"{task.work} made a record of {record.setting}"
        if finished(store, task.setting) is None:
            store.put(record, replace=True)
    except UnwritableError:  # of this place, not of this run, which is made when there is room again
        raise
    except Exception as error:
        record = failed(task.setting, f"{type(error).__name__}: {error}", traceback.format_exc())
        store.put(record, replace=True)
    return record


def record_death(task: Task, reason: str) -> Record:
    """The record of a run whose process died time and again; it is in the store."""
    record = failed(task.setting, reason, reason)
    Store(task.store).put(record, replace=True)
    return record


def finished(store: Store, setting: Setting) -> Record | None:
    """The record of a setting, unless it failed."""
    record = store.get(setting)
    return None if record is None or record.outcome == "failed" else record


def failed(setting: Setting, reason: str, error: str) -> Record:
    """The record of a run that could not be made; ``reason`` is cut to its first two lines that say something.

    The first alone may be no more than "Error(s) in loading state_dict for X:".
    """
    lines = [line for line in reason.splitlines() if any(map(str.isalnum, line))]
    short = shorten(" ".join(lines[:2]), _REASON_LENGTH, placeholder=" ...")
    return Record(setting=setting, outcome="failed", reason=short, error=error)


def resolve(work: str) -> Any:
    """The object that ``module:name`` names. Raises ``RequestError`` if there is none."""
    module, _, name = work.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"cannot find {work}: {error}") from error
