"""Runs as jobs of Slurm, through submitit; they outlive the process that submits them."""

import json
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

from mqbench.claims import Claims
from mqbench.compute import Compute
from mqbench.errors import RequestError
from mqbench.executors._base import (
    Event,
    Executor,
    Listener,
    Lost,
    Started,
    Task,
    finished,
    perform,
    record_death,
)
from mqbench.record import Record
from mqbench.store import Store

_POLL_SECONDS = 1.0
_TRIES = 2
_JOBS = 100
_ID = "job.json"
_KINDS = {"slurm": "SlurmJob", "local": "LocalJob"}  # submitit's classes


@dataclass(frozen=True, kw_only=True)
class Slurm(Executor):
    """A job for each run.

    Args:
        partition, account, qos, constraint: those of sbatch.
        hours: wall time of a job. One that reaches it is queued again and goes on from its checkpoint, up to
            ``requeues`` times.
        memory_gb: of a job.
        cpus, gpus: of a job; what the run's threads and devices need if not given. ``accelerator=auto`` asks
            for none: say ``--accelerator gpu``, or how many.
        silence: seconds without a sign of life or a record after which a job that is over counts as lost;
            more than files take to appear on another machine.
        cluster: ``local`` makes each job a process of this machine, which outlives this one too.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    hours: float = 24.0
    memory_gb: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    requeues: int = 10
    silence: float = 60.0
    cluster: Literal["slurm", "local"] = "slurm"

    def check(self, compute: Compute) -> None:
        """Refuse to go without submitit or Slurm, or with a run on several nodes."""
        if find_spec("submitit") is None:
            raise RequestError(
                "the executor slurm needs submitit; install it with: pip install 'mqbench[slurm]'"
            )
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise RequestError("there is no sbatch here; run this on a login node of a Slurm cluster")
        if compute.nodes > 1:
            raise RequestError(
                f"a job of the executor slurm has one node, got {compute.nodes}; use srun for such runs"
            )

    def open(self, jobs: int | None, compute: Compute) -> "SlurmPool":
        """At most ``jobs`` jobs, pending or running; a hundred if not given."""
        return SlurmPool(self, jobs or _JOBS, compute)


class SlurmPool:
    """Jobs of runs; each one's id lies beside the checkpoints, so that no other driver submits it again."""

    def __init__(self, options: Slurm, jobs: int, compute: Compute) -> None:
        self.options, self.jobs, self.compute = options, jobs, compute

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Jobs go on; the same command finds them again."""

    def run(self, tasks: Iterator[Task | None], listener: Listener) -> Iterator[Record]:
        """Records of the tasks, as they are made."""
        running: dict[Task, _Job] = {}
        deaths: Counter[Task] = Counter()
        stores: set[str] = set()
        while self._fill(running, tasks, listener) or running:
            stores |= {task.store for task in running}
            for task, job in list(running.items()):
                if (record := job.record()) is not None:
                    del running[task]
                    job.forget(keep_logs=record.outcome == "failed")
                    yield record
                elif job.is_lost():
                    deaths[task] += 1
                    if deaths[task] < _TRIES:
                        listener(Lost(task.setting, f"its job left nothing; logs in {job.folder}"))
                        listener(Started(task.setting))
                        running[task] = self._submit(task)
                    else:
                        del running[task]
                        job.forget(keep_logs=True)
                        yield record_death(task, f"its job was lost {_TRIES} times; logs in {job.folder}")
            time.sleep(_POLL_SECONDS / 2)
        for store in stores:
            _forget_recorded(Store(store))

    def _fill(self, running: "dict[Task, _Job]", tasks: Iterator[Task | None], listener: Listener) -> bool:
        while len(running) < self.jobs:
            try:
                task = next(tasks)
            except StopIteration:
                return False
            if task is None:
                return True
            listener(Started(task.setting))
            running[task] = self._known(task) or self._submit(task)
        return True

    def _known(self, task: Task) -> "_Job | None":
        """The job that another driver, dead by now, has submitted for a task."""
        import submitit

        folder = _folder(task)
        try:
            about = json.loads((folder / _ID).read_text())
        except (OSError, ValueError):
            return None
        kind = getattr(submitit, _KINDS[about["cluster"]])
        return _Job(task, kind(folder=folder, job_id=about["job_id"]), self.options.silence)

    def _submit(self, task: Task) -> "_Job":
        import submitit

        options, compute, folder = self.options, self.compute, _folder(task)
        folder.mkdir(parents=True, exist_ok=True)
        asked_gpus = compute.devices if compute.accelerator == "gpu" else 0
        executor = submitit.AutoExecutor(
            folder, cluster=options.cluster, slurm_max_num_timeout=options.requeues
        )
        parameters: dict[str, Any] = {
            "name": "mqbench",
            "timeout_min": round(options.hours * 60),
            "cpus_per_task": options.cpus or compute.threads * compute.devices,
            "gpus_per_node": asked_gpus if options.gpus is None else options.gpus,
            "mem_gb": options.memory_gb,
            "slurm_partition": options.partition,
            "slurm_account": options.account,
            "slurm_qos": options.qos,
            "slurm_constraint": options.constraint,
        }
        executor.update_parameters(**{name: value for name, value in parameters.items() if value is not None})
        try:
            submitted = executor.submit(Work(), task)
        except submitit.core.utils.FailedJobError as error:
            raise RequestError(f"Slurm refused the job: {str(error).strip().splitlines()[-1]}") from error
        hand = folder / f"{_ID}.{uuid.uuid4().hex[:8]}"
        hand.write_text(json.dumps({"cluster": options.cluster, "job_id": submitted.job_id}))
        hand.replace(folder / _ID)
        return _Job(task, submitted, options.silence)


class _Job:
    """A job that this driver watches, whoever submitted it."""

    def __init__(self, task: Task, job: Any, silence: float) -> None:
        self.task, self.job, self.silence = task, job, silence
        self.folder = _folder(task)
        self._store = Store(task.store)
        self._claims = Claims(self.folder.parent, patience=silence)
        self._over_since: float | None = None

    def record(self) -> Record | None:
        """What the job has made: a failed record may be one that it is to replace, until the job is over."""
        made = finished(self._store, self.task.setting)
        if made is not None or not self._is_over():
            return made
        return self._store.get(self.task.setting)

    def is_lost(self) -> bool:
        """It is over, and has left nothing for as long as files may take to appear here."""
        if not self._is_over():
            self._over_since = None
            return False
        if self._over_since is None:
            self._over_since = time.monotonic()
        return time.monotonic() - self._over_since > self.silence

    def forget(self, *, keep_logs: bool) -> None:
        """Remove what is known of it, for it has its record."""
        if keep_logs:
            (self.folder / _ID).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        for folder in (self.folder.parent, self.folder.parent.parent):
            with suppress(OSError):  # there is something in it
                folder.rmdir()

    def _is_over(self) -> bool:
        # A process of this machine that another driver has started is known by its sign of life alone.
        return bool(self.job.done()) and not self._claims.is_held(self.task.setting.key)


class Work:
    """What a job does; a job that reaches its wall time is queued again with it."""

    def __call__(self, task: Task) -> None:
        """Make the record, which goes to the store, unless another job is at it."""
        jobs = _folder(task).parent
        with Claims(jobs) as claims:
            if claims.take(task.setting.key):
                perform(task, _ignore)
        # not empty; or the driver has seen the record and gone before the claim did
        with suppress(OSError):
            jobs.parent.rmdir()

    def checkpoint(self, task: Task) -> Any:
        """The same again: the run goes on from its own checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, task)


def _ignore(event: Event) -> None:
    pass


def _forget_recorded(store: Store) -> None:
    """Remove what is known of jobs that made their record after their driver had died, before another looked."""
    jobs = _jobs(store)
    for folder in [path.parent for path in jobs.glob(f"*/{_ID}")]:
        record = store.get(folder.name)
        if record is not None and record.outcome != "failed":
            shutil.rmtree(folder, ignore_errors=True)
    for empty in (jobs, jobs.parent):
        with suppress(OSError):
            empty.rmdir()


def _folder(task: Task) -> Path:
    """Where submitit keeps the job of a task."""
    return _jobs(Store(task.store)) / task.setting.key


def _jobs(store: Store) -> Path:
    return Path(os.path.abspath(store.scratch("-").parent)) / "jobs"


EXECUTOR = Slurm
