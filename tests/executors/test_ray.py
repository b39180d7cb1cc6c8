"""Ray: a real cluster on this machine, whose workers and drivers are killed."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_study as study

import standin
from mqbench.compute import Compute
from mqbench.errors import RequestError
from mqbench.executors._base import Event, Lost, Progress, Started
from mqbench.executors.ray import Ray
from mqbench.liveness import lives
from mqbench.store import Store
from mqbench.sweep import sweep
from processes import environment, until

ray = pytest.importorskip("ray")

HEALTHY = [setting for setting in study.RUNS if setting.seed != 2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that this process has joined."""
    before = dict(os.environ)
    os.environ.update(environment(), RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
    try:
        for tries in range(3):  # Ray gives its processes thirty seconds, which a busy machine may not
            try:
                ray.init(
                    address="local",
                    num_cpus=2,
                    include_dashboard=False,
                    object_store_memory=80 * 2**20,
                    log_to_driver=False,
                    logging_level="error",
                    _node_ip_address="127.0.0.1",
                )
                break
            except Exception:
                ray.shutdown()
                if tries == 2:
                    raise
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def notes(tmp_path: Path) -> str:
    (tmp_path / "notes").mkdir()
    return str(tmp_path / "notes")


def test_every_run_gets_its_record_once(cluster: str, store: Store, notes: str) -> None:
    events: list[Event] = []
    made = study.make(store, notes, "run_reporting", "ray", {}, jobs=None, listener=events.append)
    assert made == study.UNDISTURBED
    assert [store.get(setting) for setting in study.RUNS] == made
    assert study.calls(notes) == [1] * len(study.RUNS)
    assert os.getpid() not in {pid for setting in study.RUNS for pid in standin.calls(notes, setting)}
    assert {e.setting for e in events if isinstance(e, Started)} == set(study.RUNS)
    news = {(e.setting, e.phase) for e in events if isinstance(e, Progress)}
    assert news
    assert {phase for _, phase in news} == {"train"}
    assert ray.is_initialized()  # joined, so not ended


def test_a_lost_workers_run_is_made_again_and_bad_ones_are_records(
    cluster: str, store: Store, notes: str
) -> None:
    events: list[Event] = []
    made = study.make(store, notes, "run_disturbed", "ray", {}, listener=events.append)
    lost = {event.setting: event.cause for event in events if isinstance(event, Lost)}
    assert set(lost) == {study.RUNS[2], study.RUNS[6]}
    assert "WorkerCrashedError" in lost[study.RUNS[2]]
    assert [r.outcome for r in made] == ["ok", "ok", "ok", "failed", "ok", "ok", "failed"]
    assert "ArithmeticError" in str(made[3].error)
    assert "its process was lost 2 times" in str(made[6].reason)
    assert [store.get(setting) for setting in study.RUNS] == made
    assert study.calls(notes) == [1, 1, 2, 1, 1, 1, 2]
    assert [r for r in made if r.outcome == "ok"] == [r for r in study.UNDISTURBED if r.setting in HEALTHY]


@pytest.mark.slow
def test_a_lost_driver_is_resumed(cluster: str, store: Store, notes: str, tmp_path: Path) -> None:
    driver = study.drive(store, notes, "run_slowly", "ray", json.dumps({"address": cluster}))
    until(lambda: study.records(store) >= 3, seconds=120)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    workers = {pid for setting in study.RUNS for pid in standin.calls(notes, setting)}
    until(lambda: not any(lives(pid) for pid in workers))
    assert study.records(store) < len(study.RUNS)

    assert study.make(store, notes, "run", "ray", {}) == study.UNDISTURBED
    fresh = Store(tmp_path / "fresh")
    sweep(study.SETTINGS, fresh, work="standin:run")
    assert study.content(store) == study.content(fresh)
    assert list(store.root.glob(".*")) == []


def test_what_no_run_can_have_is_refused() -> None:
    with pytest.raises(RequestError, match="2; use torchrun"):
        Ray().check(Compute(nodes=2))
    with pytest.raises(RequestError, match="tries must be at least 1"):
        Ray(tries=0).check(Compute())


def test_without_ray_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqbench.executors.ray.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'mqbench\[ray\]'"):
        Ray().check(Compute())


@pytest.mark.parametrize(
    ("compute", "options", "expected"),
    [
        (Compute(threads=2), Ray(), {"num_cpus": 2, "num_gpus": 0}),
        (Compute(accelerator="gpu", devices=4), Ray(), {"num_cpus": 4, "num_gpus": 4}),
        (Compute(accelerator="gpu"), Ray(num_gpus=0.25, num_cpus=1), {"num_cpus": 1, "num_gpus": 0.25}),
    ],
)
def test_a_run_asks_for_what_it_computes_with(
    cluster: str, compute: Compute, options: Ray, expected: dict[str, float]
) -> None:
    with options.open(2, compute) as pool:
        assert pool._need == expected
