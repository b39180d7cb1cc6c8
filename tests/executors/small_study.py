"""A small study of stand-in runs, for the executors that run it elsewhere, and the driver that is killed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import standin
from mqbench.record import Setting
from mqbench.store import Store
from mqbench.sweep import executor_of, sweep
from processes import environment

FLOAT = Setting(architecture="digits_resnet", dataset="digits")
SETTINGS = [
    Setting(architecture="digits_resnet", dataset="digits", algorithm="lsq", backend=backend, seed=seed)
    for backend in ("academic", "tvm")
    for seed in range(3)
]
RUNS = [FLOAT, *SETTINGS]
UNDISTURBED = [standin.record_of(setting) for setting in RUNS]

DRIVER = """
import json, sys
import small_study as study
from mqbench.store import Store
study.make(Store(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], json.loads(sys.argv[5]))
"""


def make(store: Store, notes: str, work: str, executor: str, options: dict[str, str], **more: Any) -> Any:
    kind = executor_of(executor, options)
    return sweep(SETTINGS, store, executor=kind, data=notes, work=f"standin:{work}", **{"jobs": 2, **more})


def drive(store: Store, notes: str, work: str, executor: str, options: str) -> subprocess.Popen[bytes]:
    """Another process that makes the study."""
    here = environment()
    here["PYTHONPATH"] += f":{Path(__file__).parent}"
    command = [sys.executable, "-c", DRIVER, str(store.root), notes, work, executor, options]
    return subprocess.Popen(command, env=here)


def records(store: Store) -> int:
    return sum(setting in store for setting in RUNS) if store.exists() else 0


def calls(notes: str) -> list[int]:
    return [len(standin.calls(notes, setting)) for setting in RUNS]


def content(store: Store) -> dict[str, bytes]:
    """Every file of every record."""
    found = store.root.glob("[0-9a-f]*/*")
    return {str(path.relative_to(store.root)): path.read_bytes() for path in found}
