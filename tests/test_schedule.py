"""Large studies: a window at a time is planned, checked and held; several sweeps share the work."""

import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import standin
from mqbench import schedule
from mqbench.claims import Claims
from mqbench.errors import IncompatibleError
from mqbench.executors._base import Event, Planned, Started
from mqbench.record import Setting
from mqbench.schedule import windows
from mqbench.store import Store
from mqbench.study import Study
from mqbench.sweep import plan, stream
from processes import environment

BASE: dict[str, Any] = {"architecture": "digits_resnet", "dataset": "digits"}


def study(seeds: int, **axes: Any) -> Study:
    return Study(name="s", axes=BASE | {"algorithm": "lsq", "seeds": list(range(seeds))} | axes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def notes(tmp_path: Path) -> str:
    (tmp_path / "notes").mkdir()
    return str(tmp_path / "notes")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "WINDOW", 4)


@pytest.mark.usefixtures("small")
def test_windows_have_each_float_network_once_and_first() -> None:
    settings = study(5, float_seed=[0, 1]).settings()
    parts = list(windows(settings))
    assert [(len(runs), more) for runs, more in parts] == [(6, True), (4, True), (2, False)]
    assert [s.algorithm for s in parts[0][0]] == ["float"] * 2 + ["lsq"] * 4
    runs = [setting for window, _ in parts for setting in window]
    assert len(set(runs)) == len(runs) == 12
    assert plan(settings) == runs


@pytest.mark.usefixtures("small")
def test_a_stream_makes_what_is_missing_and_holds_a_window(store: Store, notes: str) -> None:
    events: list[Event] = []
    settings = study(10).settings()
    made = stream(settings, store, data=notes, work="standin:run", listener=events.append)
    first = list(islice(made, 3))
    assert [event for event in events if isinstance(event, Planned)] == [Planned(5, 0, so_far=True)]
    made.close()  # type: ignore[attr-defined]
    assert list(store.root.glob(".*")) == []  # no claims are left
    events.clear()
    rest = list(stream(settings, store, data=notes, work="standin:run", listener=events.append))
    assert [record.setting for record in [*first, *rest]] == plan(settings)
    planned = [event for event in events if isinstance(event, Planned)]
    assert planned == [Planned(5, 3, so_far=True), Planned(9, 5, so_far=True), Planned(11, 9)]
    assert [len(standin.calls(notes, setting)) for setting in plan(settings)] == [1] * 11
    assert list(stream(settings, store, data=notes, work="nothing_of_this_name")) == []


@pytest.mark.usefixtures("small")
def test_what_cannot_run_is_refused_in_the_first_window_and_a_record_in_a_later_one(
    store: Store, notes: str
) -> None:
    with pytest.raises(IncompatibleError):
        list(stream(study(3, bits=[2, 4]).settings(), store, data=notes, work="standin:run"))
    assert not store.root.exists()
    later = [*study(4).settings(), *study(2, bits=[2, 4]).settings()]
    made = list(stream(later, store, data=notes, work="standin:run"))
    bad = [record for record in made if record.outcome == "failed"]
    assert [(r.setting.bits, r.setting.seed) for r in bad] == [((2, 2), 0), ((2, 2), 1)]
    assert all("2 bits of lsq cannot work here" in str(record.reason) for record in bad)
    assert len(made) == 1 + 4 + 2


def test_a_quantized_run_waits_for_its_own_float_network_alone(store: Store, notes: str) -> None:
    events: list[Event] = []
    settings = study(1, float_seed=[0, 1, 2]).settings()
    list(stream(settings, store, data=notes, work="standin:run_slow_float", jobs=2, listener=events.append))
    order = [
        (e.setting.algorithm, e.setting.seed or e.setting.float_seed)
        for e in events
        if isinstance(e, Started)
    ]
    assert order.index(("lsq", 1)) < order.index(("lsq", 0))  # float 0 is the slow one


def test_what_another_sweep_is_at_is_left_to_it(store: Store, notes: str) -> None:
    settings = plan(study(3).settings())
    other = settings[2]
    store.root.mkdir()
    claims = Claims(store.scratch("-").parent)
    assert claims.take(other.key)
    started: list[Setting] = []

    def listen(event: Event) -> None:
        if isinstance(event, Started):
            started.append(event.setting)
            if len(started) == 3:  # all but the one: now the other sweep is done
                store.put(standin.record_of(other))
                claims.release(other.key)

    made = list(stream(settings, store, data=notes, work="standin:run", listener=listen))
    assert started == [s for s in settings if s != other]
    assert made[-1] == standin.record_of(other)
    assert standin.calls(notes, other) == []


def test_a_run_that_another_sweep_gives_up_is_made(store: Store, notes: str) -> None:
    settings = plan(study(2).settings())
    store.root.mkdir()
    claims = Claims(store.scratch("-").parent)
    assert claims.take(settings[0].key)  # of the float network, so nothing can start
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: list(stream(settings, store, data=notes, work="standin:run")))
        time.sleep(0.5)
        assert not store.stamps()
        claims.release(settings[0].key)
        made = future.result(timeout=60)
    assert [record.setting for record in made] == settings


SCRIPT = """
import sys
import standin
from mqbench.store import Store
from mqbench.sweep import stream
from test_schedule import study
standin.without_torch()
list(stream(study(30).settings(), Store(sys.argv[1]), data=sys.argv[2], work="standin:run_slowly", jobs=1))
"""


def test_several_drivers_make_no_run_twice(store: Store, notes: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(store.root), notes]
    drivers = [subprocess.Popen(command, env=environment()) for _ in range(3)]
    assert [driver.wait(timeout=120) for driver in drivers] == [0, 0, 0]
    settings = plan(study(30).settings())
    assert [store.get(setting) for setting in settings] == [standin.record_of(s) for s in settings]
    assert [len(standin.calls(notes, setting)) for setting in settings] == [1] * len(settings)
    assert len({pid for setting in settings for pid in standin.calls(notes, setting)}) > 1
    assert list(store.root.glob(".*")) == []


def test_a_million_settings_begin_at_once_in_little_memory(store: Store, notes: str) -> None:
    million = study(1000, weight_decay=[n / 1000 for n in range(1000)]).settings()
    first = next(iter(million))
    assert first in million
    tracemalloc.start()
    try:
        made = stream(million, store, data=notes, work="standin:run")
        records = list(islice(made, 3))
        made.close()  # type: ignore[attr-defined]
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()
    assert [record.setting.algorithm for record in records] == ["float", "lsq", "lsq"]
