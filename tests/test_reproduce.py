"""A run made again: equal, near, or not, and what is different around it."""

from pathlib import Path
from typing import Any

import pytest

from mqbench.compute import Compute
from mqbench.errors import RequestError
from mqbench.record import CurvePoint, Record
from mqbench.reproduce import compute_of, find, reproduce
from mqbench.store import Store
from test_store import FAILED, OK, PROVENANCE, SETTING

FLOAT = Record(setting=SETTING.float_setting, outcome="ok", accuracy=71.0, provenance=PROVENANCE)


class Again:
    """Gives a record with some fields changed, and notes what it was asked."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.asked: dict[str, Any] = {}
        self.found: list[str] = []

    def __call__(self, setting: object, **options: Any) -> Record:
        self.asked = options
        store = options["store"]
        self.found = [record.setting.key for record in store] if store.exists() else []
        return OK.model_copy(update=self.fields)


def test_equal_to_the_bit() -> None:
    done = reproduce(OK, Again())
    assert done.reproduced
    assert done.found == []


def test_within_and_beyond_the_tolerance() -> None:
    near = Again(accuracy=70.0)
    assert not reproduce(OK, near).reproduced
    done = reproduce(OK, near, tolerance=0.25)
    assert done.reproduced
    assert [str(d) for d in done.found] == ["accuracy 70.25 and 70"]
    assert not reproduce(OK, Again(outcome="not_converged", accuracy=None), tolerance=100.0).reproduced


def test_the_curve_counts() -> None:
    point = CurvePoint(epoch=1, learning_rate=0.1, train_loss=1.0, train_accuracy=50.0, test_accuracy=60.0)
    record = OK.model_copy(update={"curve": (point,)})
    moved = point.model_copy(update={"test_accuracy": 59.0})
    done = reproduce(record, Again(curve=(moved,)))
    assert [str(d) for d in done.found] == ["test accuracy of epoch 1 60 and 59"]
    assert not reproduce(record, Again(curve=()), tolerance=100.0).reproduced


def test_it_runs_in_a_store_of_its_own_with_the_same_compute(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    store.put(FLOAT, {"weights.safetensors": b"w"})
    store.put(OK)
    run = Again()
    reproduce(OK, run, data="somewhere")
    assert run.found == [], "the float network is trained again"
    assert run.asked["data"] == "somewhere"
    assert run.asked["compute"] == Compute(threads=PROVENANCE.threads)
    assert not Path(run.asked["store"].root).exists()
    reproduce(OK, run, store=store)
    assert run.found == [FLOAT.setting.key]


def test_the_compute_of_a_record() -> None:
    compute = {"threads": 2, "precision": "64-true", "old": 1}
    provenance = PROVENANCE.model_copy(update={"threads": 2, "compute": compute})
    assert compute_of(provenance) == Compute(threads=2, precision="64-true")
    assert compute_of(None) == Compute()


def test_what_is_different_around_it() -> None:
    there = PROVENANCE.model_copy(update={"hostname": "there", "versions": {"torch": "9"}})
    done = reproduce(OK, Again(provenance=there))
    assert done.surroundings == {"hostname": ("h", "there"), "torch": ("none", "9")}


def test_a_failure_is_no_result() -> None:
    with pytest.raises(RequestError, match=r"failed .*no result"):
        reproduce(FAILED, Again())


def test_finding_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "runs")
    store.put(OK)
    store.put(FLOAT)
    elsewhere = Store(tmp_path / "none")
    for which in (SETTING.key, SETTING.key[:6]):
        assert find(which, store)[0] == OK
    for path in (store.root / SETTING.key, store.root / SETTING.key / "record.json"):
        assert find(str(path), elsewhere)[0] == OK
    with pytest.raises(RequestError, match="no record 'ffffffff'"):
        find("ffffffff", store)
    with pytest.raises(RequestError, match="not the key"):
        find("lsq", store)
    monkeypatch.setattr(Store, "stamps", lambda self: {"ab0": "", "ab1": ""})
    with pytest.raises(RequestError, match="2 records"):
        find("ab", store)
