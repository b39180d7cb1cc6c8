"""A run that another interpreter makes: the setting goes there as JSON, record and files come back in a store."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

from mqbench import catalog
from mqbench.compute import Compute
from mqbench.errors import MQBenchError
from mqbench.record import Record, Setting
from mqbench.store import Store
from mqbench.tools import _elsewhere as interpreters

_CODE = "from mqbench.elsewhere import answer; answer()"


def run_elsewhere(
    python: str,
    setting: Setting,
    run: Callable[..., Record],
    store: Store | None,
    *,
    data: str | None,
    compute: Compute,
    progress: Callable[[str, int, int], None],
) -> Record:
    """Make a run with another interpreter, which has mqbench too; the float network is made here.

    Args:
        python: the interpreter.
        setting: of the run.
        run: `mqbench.run`.
        store: takes the record and the files beside it; None keeps nothing.
        data: folder of the datasets.
        compute: of the run.
        progress: called with (phase, done, total); the other interpreter does not say how far it is.

    Raises:
        MQBenchError: it failed there; what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="mqbench-") as folder:
        there = Store(Path(folder) / "runs")
        here = there if store is None else store
        start = setting.float_setting
        network = run(start, store=here, data=data, compute=compute, progress=progress)
        if here is not there:
            there.put(network, here.attachments(start))
        request = {
            "setting": setting.model_dump(mode="json"),
            "store": str(there.root),
            "data": data and os.path.abspath(data),
            "compute": asdict(compute),
            "load": [str(path) for path in catalog.added_files()],
        }
        progress(f"in {python}", 0, 1)
        said, code = _ask(python, setting.tool, json.dumps(request))
        record = there.get(setting)
        if code or record is None:
            last = (said.strip().splitlines() or ["no message"])[-1]
            raise MQBenchError(f"{setting.tool} failed in {python} (exit code {code}): {last}")
        if store is not None:
            store.put(record, there.attachments(setting), replace=True)
        return record


def _ask(python: str, tool: str, request: str) -> tuple[str, int]:
    """What the interpreter says on standard error, and its exit code."""
    process = subprocess.Popen(
        [python, "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=interpreters.environment(tool),
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        # The pipe stays open: its end is how the other learns that this process has died.
        process.stdin.write(request + "\n")
        process.stdin.flush()
        return process.stderr.read(), process.wait()
    finally:
        process.kill()
        process.wait()


def answer() -> None:
    """Make the run that standard input asks for; in the other interpreter."""
    request: dict[str, Any] = json.loads(sys.stdin.readline())
    Thread(target=_exit_with_parent, daemon=True).start()
    from mqbench.runner import run

    for path in request["load"]:
        catalog.load(path)
    setting, compute = Setting(**request["setting"]), Compute(**request["compute"])
    run(setting, store=request["store"], data=request["data"], compute=compute)


def _exit_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock would be held when this process ends by itself
    os._exit(1)
