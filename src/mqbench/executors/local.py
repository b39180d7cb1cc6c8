"""Runs on this machine: one process for each run at a time, or this process if there is only one."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Self

from mqbench.compute import Compute
from mqbench.errors import StoreError
from mqbench.executors._base import (
    Executor,
    Listener,
    Lost,
    Progress,
    Started,
    Task,
    perform,
    record_death,
)
from mqbench.record import Record

_POLL_SECONDS = 1.0
_TRIES = 2


@dataclass(frozen=True, kw_only=True)
class Local(Executor):
    """This machine."""

    def check(self, compute: Compute) -> None:
        """Refuse devices and a precision that this machine has not."""
        from mqbench.training import check_compute  # imports torch, and there may be nothing to run

        check_compute(compute)

    def open(self, jobs: int | None, compute: Compute) -> "LocalPool":
        """At most ``jobs`` worker processes; one for each core if not given."""
        return LocalPool(jobs or _cores())


class LocalPool:
    """At most ``jobs`` worker processes, each kept for run after run; with one job, this process."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def run(self, tasks: Iterator[Task | None], listener: Listener) -> Iterator[Record]:
        """Records of the tasks, as they are made."""
        if self.jobs > 1:
            yield from self._run_in_workers(tasks, listener)
            return
        for task in tasks:
            if task is None:
                time.sleep(_POLL_SECONDS / 4)
                continue
            listener(Started(task.setting))
            yield perform(task, listener)

    def _run_in_workers(self, tasks: Iterator[Task | None], listener: Listener) -> Iterator[Record]:
        again: list[Task] = []
        deaths: Counter[Task] = Counter()
        while self._assign(tasks, again, listener) or any(worker.task for worker in self._workers):
            busy = [worker.connection for worker in self._workers]
            wait(busy, timeout=_POLL_SECONDS) if busy else time.sleep(_POLL_SECONDS / 4)
            for worker in list(self._workers):
                task = worker.task
                message = worker.message()
                if isinstance(message, Record):
                    yield message
                elif isinstance(message, StoreError):
                    raise message
                elif message is not None:
                    listener(message)
                elif worker.is_dead:
                    self._workers.remove(worker)
                    if task is None:
                        continue
                    deaths[task] += 1
                    if deaths[task] < _TRIES:
                        listener(Lost(task.setting, _cause(worker.exit_code)))
                        again.append(task)
                    else:
                        said = f"its process died {_TRIES} times, last with {_cause(worker.exit_code)}"
                        yield record_death(task, said)

    def _assign(self, tasks: Iterator[Task | None], again: list[Task], listener: Listener) -> bool:
        """Give tasks to workers that have none; False if there are none any more."""
        idle = [worker for worker in self._workers if worker.task is None]
        while idle or len(self._workers) < self.jobs:
            try:
                task = again.pop() if again else next(tasks)
            except StopIteration:
                return False
            if task is None:
                return True
            if not idle:
                idle.append(_Worker())
                self._workers.append(idle[-1])
            listener(Started(task.setting))
            idle.pop().give(task)
        return True


class _Worker:
    """A process that performs one task after the other, and its end of the pipe.

    Each has a pipe of its own: a queue has a lock that a killed writer would keep.
    """

    def __init__(self) -> None:
        context = get_context("spawn")  # a fork of a process that has used torch's threads may hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,))
        self.task: Task | None = None
        # Ctrl-C reaches the whole process group. A child that inherits the blocked signal leaves it to us
        # until `serve` ignores it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    @property
    def exit_code(self) -> int | None:
        return self.process.exitcode

    @property
    def is_dead(self) -> bool:
        return self.process.exitcode is not None

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # dead already, which `is_dead` will tell
            self.connection.send(task)

    def message(self) -> Progress | Record | StoreError | None:
        """What the worker has sent, if anything; its record makes it idle."""
        try:
            if not self.connection.poll():
                return None
            message: Progress | Record | StoreError = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(timeout=_POLL_SECONDS)  # its end of the pipe closes just before it is gone
            return None
        if isinstance(message, Record):
            self.task = None
        return message

    def dismiss(self) -> None:
        """Let an idle worker go: it ends by itself, and gives back what it holds of the system."""
        if self.task is None:
            self.connection.close()

    def stop(self) -> None:
        """Wait for a worker that was let go, end one at work."""
        if self.connection.closed:
            self.process.join(timeout=5)
        self.process.terminate()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def serve(connection: Connection) -> None:
    """A worker process: perform the tasks that come, until the pipe or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_with_parent, daemon=True).start()
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        try:
            connection.send(perform(task, connection.send))
        except StoreError as error:
            connection.send(error)


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # a run in progress cannot be asked to stop; its record is not begun or whole


def _cause(exit_code: int | None) -> str:
    cause = f"signal {-exit_code}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
    return f"{cause}; out of memory?"


def _cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


EXECUTOR = Local
