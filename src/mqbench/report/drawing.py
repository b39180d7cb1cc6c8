"""The pages of many runs, drawn by several processes: they are most of the work of a report."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from mqbench.record import Record
from mqbench.report import run_page
from mqbench.report.context import Context
from mqbench.report.frame import Frame

_WORTHWHILE = 200  # runs before starting a process (half a second) pays
_CHUNK = 16

Run = tuple[Record, Sequence[tuple[int, str]], bool]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def page(frame: Frame, context: Context, run: Run) -> str:
    """The page of a run, given its siblings (seed and key) and whether its float network has a page."""
    record, siblings, from_float = run
    values = run_page.values(context, record, siblings, from_float=from_float)
    return frame.render(
        "run.html",
        page={"file": f"runs/{record.setting.key}.html", "title": values["name"]},
        run=True,
        up="../",
        **values,
    )


def drawn(frame: Frame, context: Context, runs: Sequence[Run], processes: int) -> Iterator[tuple[str, str]]:
    """Key and page of every run, in their order."""
    if processes < 2 or len(runs) < _WORTHWHILE:
        for run in runs:
            yield run[0].setting.key, page(frame, context, run)
        return
    certificates: Mapping[str, Any] = context.certificates
    pool = ProcessPoolExecutor(
        processes,
        get_context("spawn"),  # a fork of a process with polars' threads may hang
        initializer=_begin,
        initargs=(frame, context.store, certificates),
    )
    try:
        pages = pool.map(_page, runs, chunksize=_CHUNK)
        for run, text in zip(runs, pages, strict=True):
            yield run[0].setting.key, text
    finally:
        pool.shutdown(cancel_futures=True)


_STATE: dict[str, Any] = {}  # of a worker: what all its pages share


def _begin(frame: Frame, store: Any, certificates: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read when polars is first imported
    _STATE.update(frame=frame, context=Context(store, (), (), certificates))


def _page(run: Run) -> str:
    return page(_STATE["frame"], _STATE["context"], run)
