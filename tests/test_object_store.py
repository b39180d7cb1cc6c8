"""The store at a URL: the promises of the local one, on fsspec's memory and file systems."""

import pickle
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

import mqbench
from mqbench.errors import StoreError
from mqbench.object_store import ObjectStore
from mqbench.record import Record
from mqbench.store import Store
from mqbench.sweep import sweep
from test_store import FAILED, OK, SETTING


@pytest.fixture
def store() -> Iterator[Store]:
    url = f"memory://{uuid.uuid4().hex}/runs"
    yield Store(url)
    fs = fsspec.filesystem("memory")
    if fs.exists(url):
        fs.rm(url, recursive=True)


def objects(store: Store) -> list[str]:
    names = fsspec.filesystem("memory").find(str(store.root))
    return sorted(name.partition("/runs/")[2].partition("/")[2].partition(".")[2] for name in names)


def test_a_url_gives_an_object_store(store: Store) -> None:
    assert isinstance(store, ObjectStore)
    assert str(store.root).startswith("memory://")
    assert repr(pickle.loads(pickle.dumps(store))) == repr(store)


def test_a_file_url_is_the_folder(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/runs")
    assert type(store) is Store
    store.put(OK)
    assert Store(tmp_path / "runs").get(SETTING) == OK


def test_what_is_put_is_got(store: Store) -> None:
    assert store.get(SETTING) is None
    assert SETTING not in store
    assert not store.exists()
    store.put(OK, {"weights.safetensors": b"\x00w"})
    assert store.get(SETTING) == store.get(SETTING.key) == OK
    assert SETTING in store
    assert list(store) == [OK]
    assert store.file(SETTING, "weights.safetensors").read_bytes() == b"\x00w"
    assert store.attachments(SETTING) == {"weights.safetensors": b"\x00w"}
    with pytest.raises(StoreError, match=r"no file weights\.bin"):
        store.file(SETTING, "weights.bin")


def test_the_first_finished_record_stays(store: Store) -> None:
    store.put(OK, {"w": b"1"})
    for replace in (False, True):
        store.put(OK.model_copy(update={"accuracy": 1.0}), {"w": b"2"}, replace=replace)
        store.put(FAILED, replace=replace)
    assert list(store) == [OK]
    assert store.attachments(SETTING) == {"w": b"1"}
    assert len(objects(store)) == 2


def test_a_failed_record_gives_way_only_when_asked(store: Store) -> None:
    store.put(FAILED)
    store.put(OK)
    assert list(store) == [FAILED]
    store.put(OK, replace=True)
    assert list(store) == [OK]


def test_a_writer_that_is_overtaken_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer finishes between our look and our write."""
    real = ObjectStore.get
    raced: list[Any] = []

    def get(self: ObjectStore, which: Any) -> Record | None:
        found = real(self, which)
        if not raced:
            raced.append(which)
            Store(str(self.root)).put(OK, {"w": b"first"})
        return found

    monkeypatch.setattr(ObjectStore, "get", get)
    store.put(OK.model_copy(update={"accuracy": 1.0}), {"w": b"second"}, replace=True)
    assert list(store) == [OK]
    assert store.attachments(SETTING) == {"w": b"first"}
    assert len(objects(store)) == 2


def test_a_late_failure_does_not_hide_a_finished_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(OK)
    monkeypatch.setattr(ObjectStore, "get", lambda self, which: None)  # it looked before OK was there
    store.put(FAILED)
    monkeypatch.undo()
    assert store.get(SETTING) == OK


def test_files_of_dead_writers_go_after_a_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(OK, {"w": b"1"})
    fs = fsspec.filesystem("memory")
    fs.pipe_file(f"{store.root}/{SETTING.key}/0123abcd.w", b"lost")
    store.clean()
    assert len(objects(store)) == 3
    later = datetime.now(UTC) - timedelta(days=2)
    monkeypatch.setattr(type(fs), "modified", lambda self, path: later)
    store.clean()
    assert len(objects(store)) == 2
    assert store.attachments(SETTING) == {"w": b"1"}


def test_damaged_records_are_named(store: Store) -> None:
    store.put(OK)
    fsspec.filesystem("memory").pipe_file(f"{store.root}/{SETTING.key}/record.json", b"{")
    with pytest.raises(StoreError, match=f"damaged record {store.root}/{SETTING.key}"):
        store.get(SETTING)


def test_checks(store: Store) -> None:
    with pytest.raises(StoreError, match="no records at memory://"):
        store.check_readable()
    store.check_writable()
    with pytest.raises(StoreError, match="cannot open the store nowhere://x"):
        Store("nowhere://x").exists()
    assert store.scratch("a").parent == store.scratch("b").parent
    assert store.scratch("a").parent != Store("memory://other").scratch("a").parent


def test_the_frame_and_its_index(store: Store) -> None:
    for seed in range(300):
        store.put(OK.model_copy(update={"setting": SETTING.model_copy(update={"seed": seed})}))
    first = mqbench.records(store)
    assert first.height == 300
    assert fsspec.filesystem("memory").glob(f"{store.root}/.index-*.parquet")
    started = time.perf_counter()
    again = mqbench.records(str(store.root))
    assert again.equals(first)
    assert time.perf_counter() - started < 1


def test_a_study_on_it(store: Store) -> None:
    place = {"architecture": "digits_resnet", "dataset": "digits"}
    settings = [SETTING.model_copy(update={**place, "seed": seed}) for seed in (0, 1)]
    made = sweep(settings, store, work="standin:run")
    assert [r.setting for r in made[1:]] == settings
    assert sweep(settings, Store(str(store.root)), work="nowhere:run") == made
