"""Sweeps: only what is missing is run, failures are records, and no kill loses or halves one."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mqbench
import standin
from mqbench.errors import IncompatibleError, RequestError, StoreError, UnknownNameError
from mqbench.executors._base import Event, Finished, Planned, Progress, Started, failed
from mqbench.liveness import lives
from mqbench.record import Record, Setting
from mqbench.store import Store
from mqbench.sweep import plan, sweep
from processes import environment, until

FLOAT = Setting(architecture="digits_resnet", dataset="digits")
SETTINGS = [
    Setting(architecture="digits_resnet", dataset="digits", algorithm="lsq", backend=backend, seed=seed)
    for backend in ("academic", "tensorrt")
    for seed in range(3)
]
RUNS = [FLOAT, *SETTINGS]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def notes(tmp_path: Path) -> str:
    (tmp_path / "notes").mkdir()
    return str(tmp_path / "notes")


def make(store: Store, notes: str, work: str = "run", **options: Any) -> list[Record]:
    return sweep(SETTINGS, store, data=notes, work=f"standin:{work}", **options)


def count(notes: str) -> list[int]:
    return [len(standin.calls(notes, setting)) for setting in RUNS]


def files(store: Store) -> dict[str, bytes]:
    return {str(path.relative_to(store.root)): path.read_bytes() for path in store.root.rglob("*.*")}


def test_the_plan_has_each_run_once_and_float_networks_first() -> None:
    assert plan([*SETTINGS, *SETTINGS]) == RUNS
    assert plan([*SETTINGS, FLOAT]) == RUNS
    other = SETTINGS[0].model_copy(update={"float_seed": 1})
    assert plan([SETTINGS[0], other])[:2] == [FLOAT, FLOAT.model_copy(update={"seed": 1})]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_run_gets_its_record_once(store: Store, notes: str, jobs: int) -> None:
    events: list[Event] = []
    made = make(store, notes, jobs=jobs, listener=events.append)
    assert made == [standin.record_of(setting) for setting in RUNS]
    assert [store.get(setting) for setting in RUNS] == made
    assert store.file(FLOAT, "weights.safetensors").read_text() == FLOAT.key
    assert count(notes) == [1] * len(RUNS)
    processes = {pid for setting in RUNS for pid in standin.calls(notes, setting)}
    assert (processes == {os.getpid()}) == (jobs == 1)
    assert len(processes) <= jobs
    assert events[0] == Planned(total=len(RUNS), done=0)
    assert events[1] == Started(FLOAT)
    assert Progress(FLOAT, "train", 1, 2) in events
    assert sorted(e.record.setting.key for e in events if isinstance(e, Finished)) == sorted(
        r.key for r in RUNS
    )
    assert events.index(Finished(made[0])) < events.index(Started(SETTINGS[0]))


def test_a_finished_study_is_not_run_again(store: Store, notes: str) -> None:
    first = make(store, notes)
    before = files(store)
    events: list[Event] = []
    assert make(store, notes, work="nothing_of_this_name", listener=events.append) == first
    assert events == [Planned(total=len(RUNS), done=len(RUNS))]
    assert files(store) == before
    assert count(notes) == [1] * len(RUNS)


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_run_raises_is_its_outcome(store: Store, notes: str, jobs: int) -> None:
    made = make(store, notes, "run_raising", jobs=jobs)
    failed = [record for record in made if record.outcome == "failed"]
    assert [record.setting.seed for record in failed] == [1, 1]
    for record in failed:
        assert record.reason == "ArithmeticError: seed 1 is bad and here is why"
        assert record.error is not None
        assert "Traceback" in record.error
        assert "and here is why" in record.error
        assert store.get(record.setting) == record
    assert sum(record.outcome == "ok" for record in made) == 5


def test_failed_runs_are_made_again_only_when_asked(store: Store, notes: str) -> None:
    failed = make(store, notes, "run_raising")
    assert make(store, notes) == failed
    assert make(store, notes, retry_failed=True) == [standin.record_of(setting) for setting in RUNS]
    assert count(notes) == [1, 1, 2, 1, 1, 2, 1]
    assert list(store.root.glob(".*")) == []


def test_without_its_float_network_a_run_fails_without_compute(store: Store, notes: str) -> None:
    events: list[Event] = []
    made = make(store, notes, "run_without_float", listener=events.append)
    assert {record.outcome for record in made} == {"failed"}
    assert count(notes) == [0] * 7
    reason = "its float network failed: ArithmeticError: no float network"
    assert {record.reason for record in made[1:]} == {reason}
    assert [store.get(setting) for setting in RUNS] == made
    assert sum(isinstance(event, Finished) for event in events) == 7
    assert {r.outcome for r in make(store, notes, retry_failed=True)} == {"ok"}


def test_a_killed_worker_is_tried_once_more(store: Store, notes: str) -> None:
    made = make(store, notes, "run_killed_once", jobs=2)
    assert made == [standin.record_of(setting) for setting in RUNS]
    assert count(notes) == [1, 1, 2, 1, 1, 2, 1]


def test_a_worker_that_is_always_killed_is_a_failed_run(store: Store, notes: str) -> None:
    made = make(store, notes, "run_killed", jobs=2)
    failed = [record for record in made if record.outcome == "failed"]
    assert [record.setting.seed for record in failed] == [1, 1]
    assert all("signal 9" in str(record.reason) for record in failed)
    assert [store.get(setting) for setting in RUNS] == made
    assert count(notes) == [1, 1, 2, 1, 1, 2, 1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_keeps_what_is_finished(store: Store, notes: str, jobs: int) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Finished) and event.record.setting == SETTINGS[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(store, notes, jobs=jobs, listener=interrupt)
    assert store.get(SETTINGS[0]) == standin.record_of(SETTINGS[0])
    workers = {pid for setting in RUNS for pid in standin.calls(notes, setting)} - {os.getpid()}
    assert not any(lives(pid) for pid in workers)
    assert make(store, notes) == [standin.record_of(setting) for setting in RUNS]


def test_names_are_checked_before_anything_else(store: Store, notes: str) -> None:
    for field, value in {
        "architecture": "resnet_digits",
        "dataset": "digit",
        "algorithm": "lsqq",
        "backend": "tensor_rt",
        "weight_calibration": "mean",
        "activation_calibration": "mean",
    }.items():
        wrong = SETTINGS[0].model_copy(update={field: value})
        with pytest.raises(UnknownNameError, match=f"'{value}'.*allowed: "):
            sweep([*SETTINGS, wrong], store, data=notes, work="standin:run")
    with pytest.raises(UnknownNameError, match="unknown executor 'moon'"):
        make(store, notes, executor="moon")
    assert not store.root.exists()
    assert count(notes) == [0] * 7


def test_what_cannot_work_is_refused_before_compute(store: Store, notes: str) -> None:
    wrong = SETTINGS[0].model_copy(update={"bits": (2, 2)})
    with pytest.raises(IncompatibleError):
        sweep([*SETTINGS, wrong], store, data=notes, work="standin:run")
    assert count(notes) == [0] * 7
    assert not store.root.exists()


def test_a_store_that_cannot_be_written_is_refused_before_compute(tmp_path: Path, notes: str) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "runs", tmp_path / "no" / "runs"):
        with pytest.raises(StoreError, match=str(root)):
            make(Store(root), notes)
    assert count(notes) == [0] * 7


def test_memory_is_not_shared_by_workers(notes: str) -> None:
    with pytest.raises(
        RequestError, match="no other process sees the records of memory://here; give --jobs 1"
    ):
        make(Store("memory://here"), notes, jobs=2)
    assert count(notes) == [0] * len(RUNS)
    assert len(make(Store("memory://here"), notes, jobs=1)) == len(RUNS)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_store_that_is_lost_ends_the_sweep(store: Store, notes: str, jobs: int) -> None:
    with pytest.raises(StoreError, match=f"cannot write {store.root}"):
        make(store, notes, "run_losing_the_store", jobs=jobs)
    assert sum(count(notes)) <= 1 + jobs


def test_leftovers_are_cleaned_when_a_sweep_has_something_to_do(store: Store, notes: str) -> None:
    store.root.mkdir()
    torn = store.root / f".new.a.host.1.0123abcd.{FLOAT.key}"
    torn.mkdir()
    os.utime(torn, (0, 0))
    make(store, notes)
    assert not torn.exists()


def test_a_users_file_reaches_the_workers(store: Store, notes: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text('"""My own."""\nfrom mqbench.algorithms.lsq import ALGORITHM as LSQ\nALGORITHM = LSQ\n')
    setting = SETTINGS[0].model_copy(update={"algorithm": "mine"})
    try:
        made = sweep([setting], store, data=notes, jobs=2, load=[str(file)], work="standin:run_loaded")
        assert made[-1].outcome == "ok", made[-1].error
    finally:
        del mqbench.algorithms._added["mine"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "Error(s) in loading state_dict for X:\n\tMissing key(s): a.\n\tb",
            "loading state_dict for X: Missing key(s): a.",
        ),
        ("first\n\n  ^^^^\n second\nthird", "first second"),
        ("one line", "one line"),
        ("much " * 1000, "much ..."),
    ],
)
def test_a_reason_is_the_two_lines_that_say_something(said: str, reason: str) -> None:
    found = failed(FLOAT, said, "traceback").reason
    assert found is not None
    assert found.endswith(reason)
    assert len(found) <= 400


SCRIPT = """
import sys
from pathlib import Path
import standin, test_sweep
from mqbench.store import Store
standin.without_torch()
test_sweep.make(Store(sys.argv[1]), sys.argv[2], sys.argv[4], jobs=int(sys.argv[3]))
"""


def start(store: Store, notes: str, jobs: int, work: str = "run_slowly") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, str(store.root), notes, str(jobs), work]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_sweep_goes_on_where_it_was(store: Store, notes: str, tmp_path: Path, jobs: int) -> None:
    killed = start(store, notes, jobs)
    until(lambda: store.root.is_dir() and sum(setting in store for setting in RUNS) >= 3)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    workers = {pid for setting in RUNS for pid in standin.calls(notes, setting)}
    until(lambda: not any(lives(pid) for pid in workers))

    before = {setting: record for setting in RUNS if (record := store.get(setting)) is not None}
    assert 3 <= len(before) < len(RUNS)
    resumed = make(store, notes, jobs=jobs)

    fresh = Store(tmp_path / "fresh")
    assert resumed == sweep(SETTINGS, fresh, work="standin:run")
    assert files(store) == files(fresh)
    assert list(store.root.glob(".*")) == []
    for setting, calls in zip(RUNS, count(notes), strict=True):
        assert calls == 1 if setting in before else calls in (1, 2)


def test_workers_end_with_their_parent_in_the_middle_of_a_run(store: Store, notes: str) -> None:
    killed = start(store, notes, 2, "run_endlessly")
    until(lambda: sum(count(notes)) == 3)
    killed.kill()
    killed.wait()
    workers = {pid for setting in RUNS for pid in standin.calls(notes, setting)}
    until(lambda: not any(lives(pid) for pid in workers), seconds=10)


def test_a_record_that_comes_between_two_looks(
    store: Store, notes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(standin.record_of(SETTINGS[0]))
    look = Store.stamps

    def stamps(self: Store) -> dict[str, str]:
        self.put(standin.record_of(FLOAT))  # by another sweep
        return look(self)

    monkeypatch.setattr(Store, "stamps", stamps)
    assert make(store, notes) == [standin.record_of(setting) for setting in RUNS]
    assert count(notes)[0] == 0


def test_two_sweeps_at_once_share_a_store(store: Store, notes: str) -> None:
    both = [start(store, notes, 1) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert [store.get(setting) for setting in RUNS] == [standin.record_of(setting) for setting in RUNS]
    assert list(store.root.glob(".*")) == []
