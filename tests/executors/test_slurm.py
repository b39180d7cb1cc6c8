"""Slurm's executor with submitit's local jobs: they outlive the driver, and none is submitted twice."""

import json
import signal
from pathlib import Path

import pytest
import small_study as study

import standin
from mqbench.compute import Compute
from mqbench.errors import RequestError
from mqbench.executors.slurm import Slurm
from mqbench.store import Store
from mqbench.sweep import sweep
from processes import environment, until

pytest.importorskip("submitit")
LOCAL = {"cluster": "local", "silence": "2"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    return Store(tmp_path / "runs")


@pytest.fixture
def notes(tmp_path: Path) -> str:
    (tmp_path / "notes").mkdir()
    return str(tmp_path / "notes")


def test_killed_jobs_are_made_again_and_bad_ones_are_records(store: Store, notes: str) -> None:
    made = study.make(store, notes, "run_disturbed", "slurm", LOCAL, jobs=3)
    assert [r.outcome for r in made] == ["ok", "ok", "ok", "failed", "ok", "ok", "failed"]
    assert "ArithmeticError" in str(made[3].error)
    assert "its job was lost 2 times; logs in " in str(made[6].reason)
    assert [store.get(setting) for setting in study.RUNS] == made
    assert study.calls(notes) == [1, 1, 2, 1, 1, 1, 2]
    assert [r for r in made if r.outcome == "ok"] == [r for r in study.UNDISTURBED if r.setting.seed != 2]


def test_jobs_outlive_the_driver_and_are_found_again(store: Store, notes: str, tmp_path: Path) -> None:
    driver = study.drive(store, notes, "run_when_told", "slurm", json.dumps(LOCAL))
    until(lambda: sum(study.calls(notes)) == 3)  # the float network, and two that wait
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert study.records(store) == 1
    running = [setting for setting in study.SETTINGS if standin.calls(notes, setting)]
    submitted = {path.name for path in store.root.glob(".checkpoints/jobs/*/job.json")}
    assert submitted == {"job.json"}

    Path(notes, "go").touch()
    assert study.make(store, notes, "run_when_told", "slurm", LOCAL, jobs=4) == study.UNDISTURBED
    assert study.calls(notes) == [1] * len(study.RUNS)
    assert len(running) == 2
    fresh = Store(tmp_path / "fresh")
    sweep(study.SETTINGS, fresh, work="standin:run")
    assert study.content(store) == study.content(fresh)
    until(lambda: not list(store.root.glob(".*")))  # a job may end after its record was seen


def test_what_no_job_can_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RequestError, match="no sbatch here"):
        Slurm().check(Compute())
    with pytest.raises(RequestError, match="one node, got 2"):
        Slurm(cluster="local").check(Compute(nodes=2))
    monkeypatch.setattr("mqbench.executors.slurm.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'mqbench\[slurm\]'"):
        Slurm().check(Compute())
