"""Runs on a Ray cluster: this machine's cores, or a cluster that is joined, GPUs included."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

from mqbench.compute import Compute
from mqbench.errors import RequestError, StoreError
from mqbench.executors._base import (
    Event,
    Executor,
    Listener,
    Lost,
    Started,
    Task,
    perform,
    record_death,
)
from mqbench.record import Record

_POLL_SECONDS = 1.0
_POST_SECONDS = 0.5
_OBJECTS = 100 * 2**20  # bytes; what travels is settings and records
_OWN = "local"  # Ray's word for a cluster that is started here


@dataclass(frozen=True, kw_only=True)
class Ray(Executor):
    """A Ray cluster.

    Args:
        address: of the cluster to join, such as ``auto`` or ``HOST:PORT``; without it that of ``RAY_ADDRESS``, else
            a cluster of this machine alone is started, and ended with the sweep. Its nodes must see the store's
            and the data's folders under the same paths.
        num_cpus, num_gpus: of each run; what the run's threads and devices need if not given. A fraction of
            a GPU lets several runs share it.
        tries: how often a run is begun whose process or node is lost before it counts as failed.
    """

    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    tries: int = 2

    def check(self, compute: Compute) -> None:
        """Refuse what Ray cannot do: a run on several nodes; and to go without Ray."""
        if find_spec("ray") is None:
            raise RequestError("the executor ray needs Ray; install it with: pip install 'mqbench[ray]'")
        if compute.nodes > 1:
            raise RequestError(
                f"a run of the executor ray has one node, got {compute.nodes}; use torchrun or srun"
            )
        if self.tries < 1:
            raise RequestError(f"tries must be at least 1, got {self.tries}")

    def open(self, jobs: int | None, compute: Compute) -> "RayPool":
        """At most ``jobs`` runs; as many as the cluster has room for if not given."""
        return RayPool(self, jobs, compute)


class RayPool:
    """Tasks of Ray, each begun again a few times if its worker is lost."""

    def __init__(self, options: Ray, jobs: int | None, compute: Compute) -> None:
        self.options, self.jobs, self.compute = options, jobs, compute
        self._running: dict[Any, Task] = {}
        self._started_here = False
        self._ray: Any = None

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = self._ray = import_module("ray")
        if not ray.is_initialized():
            self._connect()
            self._started_here = True
        self._need = self._demand()
        self._check_room()
        self._remote = ray.remote(max_retries=0, **self._need)(_perform)
        self._mailbox = ray.remote(num_cpus=0, max_restarts=-1)(_Mailbox).remote()
        return self

    def __exit__(self, *error: object) -> None:
        ray = self._ray
        for reference in self._running:
            with suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=True)
        self._running.clear()
        ray.kill(self._mailbox)
        if self._started_here:
            ray.shutdown()

    def run(self, tasks: Iterator[Task | None], listener: Listener) -> Iterator[Record]:
        """Records of the tasks, as they are made."""
        ray = self._ray
        again: list[Task] = []
        losses: Counter[Task] = Counter()
        while self._submit(tasks, again, listener) or self._running:
            if not self._running:
                time.sleep(_POLL_SECONDS / 4)
                continue
            done, _ = ray.wait(list(self._running), timeout=_POLL_SECONDS)
            with suppress(ray.exceptions.RayError):  # lost with its node, and begun again
                for event in ray.get(self._mailbox.collect.remote(), timeout=_POLL_SECONDS):
                    listener(event)
            for reference in done:
                task = self._running.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayError as error:
                    losses[task] += 1
                    if losses[task] < self.options.tries:
                        listener(Lost(task.setting, _cause(error)))
                        again.append(task)
                    else:
                        said = f"its process was lost {losses[task]} times, last with {_cause(error)}"
                        yield record_death(task, said)
                    continue
                if isinstance(outcome, StoreError):
                    raise outcome
                yield outcome

    def _submit(self, tasks: Iterator[Task | None], again: list[Task], listener: Listener) -> bool:
        """Hand in what there is room for; False if there is nothing any more."""
        room = self.jobs or self._room()
        while len(self._running) < room:
            try:
                task = again.pop() if again else next(tasks)
            except StopIteration:
                return False
            if task is None:
                return True
            listener(Started(task.setting))
            self._running[self._remote.remote(task, self._mailbox)] = task
        return True

    def _connect(self) -> None:
        ray = self._ray
        address = self.options.address or os.environ.get("RAY_ADDRESS") or _OWN
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if address == _OWN:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            own = self.options.num_cpus or self.compute.threads * self.compute.devices
            quiet |= {
                "num_cpus": max(cores, round(own * (self.jobs or 1) + 0.5 - 1e-9)),
                "include_dashboard": False,
                "object_store_memory": _OBJECTS,
                "_node_ip_address": "127.0.0.1",  # nobody else's to join
            }
        try:
            ray.init(address=address, **quiet)
        except Exception as error:  # of many kinds, ConnectionError and bare ones among them
            first = str(error).strip().partition("\n")[0]
            raise RequestError(
                f"cannot use a Ray cluster at {address}: {first or type(error).__name__}"
            ) from error

    def _demand(self) -> dict[str, float]:
        """CPUs and GPUs of a run, in Ray's words."""
        ray = self._ray
        compute = self.compute
        gpus: float = 0
        if compute.accelerator == "gpu" or (
            compute.accelerator == "auto" and ray.cluster_resources().get("GPU")
        ):
            gpus = compute.devices
        cpus = float(compute.threads * compute.devices)
        given = self.options
        return {
            "num_cpus": cpus if given.num_cpus is None else given.num_cpus,
            "num_gpus": gpus if given.num_gpus is None else given.num_gpus,
        }

    def _check_room(self) -> None:
        """Refuse what would wait for ever: a cluster of this machine alone never grows."""
        if self._started_here and not self._fits():
            raise RequestError(
                f"a run needs {self._need['num_cpus']:g} CPUs and {self._need['num_gpus']:g} GPUs, and this machine "
                "has not got them; join a cluster by --executor-option address=HOST:PORT"
            )

    def _fits(self) -> int:
        """Runs that the cluster has resources for."""
        ray = self._ray
        there = ray.cluster_resources()
        fits = [
            there.get(name, 0.0) / need
            for name, need in (("CPU", self._need["num_cpus"]), ("GPU", self._need["num_gpus"]))
            if need
        ]
        return int(min(fits, default=1.0) + 1e-6)

    def _room(self) -> int:
        return max(1, self._fits())  # one more, so that a cluster that grows on demand sees some


class _Mailbox:
    """An actor that keeps the news of runs until the driver asks for it: of each run the latest."""

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}

    def post(self, key: str, event: Event) -> None:
        self._events[key] = event

    def collect(self) -> list[Event]:
        events, self._events = self._events, {}
        return list(events.values())


def _perform(task: Task, mailbox: Any) -> Record | StoreError:
    """What a worker of Ray does."""
    last = 0.0

    def post(event: Event) -> None:
        nonlocal last
        if time.monotonic() - last > _POST_SECONDS:
            last = time.monotonic()
            mailbox.post.remote(task.setting.key, event)

    try:
        return perform(task, post)
    except StoreError as error:
        return error


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines and "Error" in lines[-1] else (lines or ["no message"])[0]
    return f"{type(error).__name__}: {said}"


EXECUTOR = Ray
