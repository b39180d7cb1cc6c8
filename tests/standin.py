"""Stand-ins for `mqbench.runner`: instant, deterministic, and faulty on request.

The ``data`` argument, which a run may use as it likes, is here a folder for notes about the calls.
"""

import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import mqbench
from mqbench.compute import Compute
from mqbench.errors import IncompatibleError
from mqbench.executors.local import Local
from mqbench.record import FLOAT, Record, Setting
from mqbench.store import Store

Progress = Callable[[str, int, int], None]


def without_torch() -> None:
    """For a process of stand-in runs: the local executor takes every device, so that nothing imports torch."""

    def check(self: Local, compute: Compute) -> None:
        """Refuse nothing."""

    Local.check = check  # type: ignore[method-assign]


def validate(settings: Iterable[Setting], data: str | None = None, compute: Compute | None = None) -> None:
    for setting in settings:
        if setting.bits == (2, 2):
            raise IncompatibleError(f"2 bits of {setting.algorithm} cannot work here; use 3 or more")


def record_of(setting: Setting) -> Record:
    """What `run` makes of a setting."""
    accuracy = int(setting.key[:4], 16) % 1000 / 10
    return Record(setting=setting, outcome="ok", accuracy=accuracy, float_accuracy=90.0)


def run(setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress) -> Record:
    _note(data, setting)
    progress("train", 1, 2)
    record = record_of(setting)
    if setting.algorithm == FLOAT:
        store.put(record, {"weights.safetensors": setting.key.encode()}, replace=True)
    return record


def run_slowly(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    record = run(setting, store=store, data=data, compute=compute, progress=progress)
    time.sleep(0.15)
    return record


def run_raising(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """Raises for seed 1."""
    if setting.seed == 1:
        _note(data, setting)
        raise ArithmeticError("seed 1 is bad\nand here is why")
    return run(setting, store=store, data=data, compute=compute, progress=progress)


def run_without_float(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    if setting.algorithm == FLOAT:
        raise ArithmeticError("no float network")
    return run(setting, store=store, data=data, compute=compute, progress=progress)


def run_killed_once(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """The process of seed 1 is killed the first time."""
    if setting.seed == 1 and not calls(data, setting):
        _note(data, setting)
        os.kill(os.getpid(), signal.SIGKILL)
    return run(setting, store=store, data=data, compute=compute, progress=progress)


def run_killed(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """The process of seed 1 is always killed."""
    if setting.seed == 1:
        _note(data, setting)
        os.kill(os.getpid(), signal.SIGKILL)
    return run(setting, store=store, data=data, compute=compute, progress=progress)


def run_interrupted(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """Ctrl-C is pressed in seed 1."""
    if setting.seed == 1:
        raise KeyboardInterrupt
    return run(setting, store=store, data=data, compute=compute, progress=progress)


def calls(data: str | None, setting: Setting) -> list[int]:
    """Ids of the processes that began a setting, one for each time."""
    assert data is not None
    return [int(path.name.split("-")[1]) for path in Path(data).glob(f"{setting.key}-*")]


def _note(data: str | None, setting: Setting) -> None:
    if data is not None:
        Path(data, f"{setting.key}-{os.getpid()}-{uuid.uuid4().hex}").touch()


def run_loaded(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """Needs the algorithm to be in the catalog."""
    if setting.algorithm != FLOAT:
        mqbench.algorithms.check(setting.algorithm)
    return run(setting, store=store, data=data, compute=compute, progress=progress)


def run_losing_the_store(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """The folder of the store is gone once a quantized run is made."""
    record = run(setting, store=store, data=data, compute=compute, progress=progress)
    if setting.algorithm != FLOAT:
        shutil.rmtree(store.root, ignore_errors=True)
        store.root.touch()
    return record


def run_endlessly(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """Quantized runs take ten minutes."""
    record = run(setting, store=store, data=data, compute=compute, progress=progress)
    if setting.algorithm != FLOAT:
        time.sleep(600)
    return record


def run_reporting(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """Takes long enough for its news to arrive before it does."""
    record = run(setting, store=store, data=data, compute=compute, progress=progress)
    time.sleep(0.3)
    return record


def run_disturbed(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """Seed 1 of academic is killed the first time; seed 2 of academic raises, that of another is always killed."""
    if setting.seed == 2 and setting.backend == "academic":
        _note(data, setting)
        raise ArithmeticError("seed 2 is bad")
    if setting.seed == 2:
        _note(data, setting)
        os.kill(os.getpid(), signal.SIGKILL)
    if setting.backend == "academic":
        return run_killed_once(setting, store=store, data=data, compute=compute, progress=progress)
    return run(setting, store=store, data=data, compute=compute, progress=progress)


def run_when_told(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """Quantized runs wait for a file named go."""
    record = run(setting, store=store, data=data, compute=compute, progress=progress)
    assert data is not None
    while setting.algorithm != FLOAT and not Path(data, "go").exists():
        time.sleep(0.05)
    return record


def run_slow_float(
    setting: Setting, *, store: Store, data: str | None, compute: Compute, progress: Progress
) -> Record:
    """The float network of seed 0 takes two seconds."""
    if setting.algorithm == FLOAT and setting.seed == 0:
        time.sleep(2)
    return run(setting, store=store, data=data, compute=compute, progress=progress)
