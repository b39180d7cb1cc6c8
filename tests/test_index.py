"""The index of a large store: never wrong, whoever writes records and whoever writes it."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import polars
import pytest

import mqbench
from mqbench import index, journal, record_file
from mqbench.columns import row, schema
from mqbench.errors import StoreError
from mqbench.record import Record, Setting
from mqbench.store import Store
from test_store import OK, PROVENANCE, SETTING

LARGE = 20  # in place of 256
MANY = LARGE + 5


def record(seed: int, accuracy: float = 70.0) -> Record:
    setting = SETTING.model_copy(update={"seed": seed})
    return OK.model_copy(update={"setting": setting, "accuracy": accuracy})


def fill(root: Path, seeds: range, accuracy: float = 70.0) -> None:
    """Records as `Store.put` leaves them, without waiting for the disk."""
    root.mkdir(exist_ok=True)
    for seed in seeds:
        made = record(seed, accuracy)
        folder = root / made.setting.key
        folder.mkdir()
        (folder / "record.json").write_text(record_file.text(made))
        (folder / "provenance.json").write_text(PROVENANCE.model_dump_json())


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqbench.index.WORTHWHILE", LARGE)
    monkeypatch.setattr(journal, "WORTHWHILE", LARGE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    fill(tmp_path / "runs", range(MANY))
    return Store(tmp_path / "runs")


def indexes(store: Store) -> list[str]:
    return [name for name in os.listdir(store.root) if name.startswith(".index-")]


def expected(store: Store) -> polars.DataFrame:
    return polars.DataFrame([row(r) for r in store], schema=schema())


def test_the_frame_is_the_records_with_and_without(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = expected(store)
    assert mqbench.records(store).equals(truth)
    assert indexes(store) == [index.name()]
    monkeypatch.setattr(Store, "get", lambda *_: pytest.fail("a record was read"))
    assert mqbench.records(store).equals(truth)


def test_a_small_store_has_none(tmp_path: Path) -> None:
    fill(tmp_path / "runs", range(5))
    assert mqbench.records(tmp_path / "runs").height == 5
    assert indexes(Store(tmp_path / "runs")) == []


def test_records_that_come_go_and_change_are_seen(store: Store) -> None:
    mqbench.records(store)
    fill(store.root, range(MANY, MANY + 3))
    shutil.rmtree(store.root / record(0).setting.key)
    path = store.root / record(1).setting.key / "record.json"
    path.write_text(path.read_text().replace("70.0", "12.5"))
    found = mqbench.records(store)
    assert found.equals(expected(store))
    assert found.filter(seed=1)["accuracy"].item() == 12.5
    assert found.filter(seed=0).is_empty()


def test_a_replaced_failure_is_seen(store: Store) -> None:
    failed = record(MANY).model_copy(update={"outcome": "failed", "accuracy": None})
    store.put(failed)
    fill(store.root, range(MANY + 1, 2 * MANY))
    assert mqbench.records(store).filter(seed=MANY)["outcome"].item() == "failed"
    store.put(record(MANY), replace=True)
    assert mqbench.records(store).filter(seed=MANY)["outcome"].item() == "ok"


@pytest.mark.parametrize("damage", [b"", b"PAR1 not at all", None])
def test_a_damaged_index_is_made_again(store: Store, damage: bytes | None) -> None:
    truth = mqbench.records(store)
    path = store.root / index.name()
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    assert mqbench.records(store).equals(truth)
    assert polars.read_parquet(path).height == MANY


def test_an_index_with_other_columns_is_not_used(store: Store) -> None:
    truth = mqbench.records(store)
    polars.DataFrame({"key": ["a"], "other": [1]}).write_parquet(store.root / index.name())
    assert mqbench.records(store).equals(truth)


def test_a_wrong_row_is_found(store: Store) -> None:
    mqbench.records(store)
    path = store.root / index.name()
    wrong = polars.read_parquet(path).with_columns(
        accuracy=polars.when(polars.col("seed") == 7).then(99.0).otherwise("accuracy")
    )
    assert index.differences(store) == []
    wrong.write_parquet(path)
    assert index.differences(store) == [record(7).setting.key]
    assert index.rebuild(store).equals(expected(store))
    assert index.differences(store) == []


def test_a_damaged_record_is_still_named(store: Store) -> None:
    mqbench.records(store)
    path = store.root / record(3).setting.key / "record.json"
    path.write_text("{")
    with pytest.raises(StoreError, match=f"damaged record .*{record(3).setting.key}"):
        mqbench.records(store)


def test_a_folder_that_cannot_be_written_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert mqbench.records(store).height == MANY
    assert indexes(store) == []


def test_old_records_load(store: Store) -> None:
    """A record from before a field was there has its default."""
    path = store.root / record(2).setting.key / "record.json"
    fields = json.loads(path.read_text())
    for name in ("sync_bn", "power_of_two", "calibration_images"):
        fields["setting"].pop(name)
    fields.pop("nc_kind")
    path.write_text(json.dumps(fields))
    old = mqbench.records(store).filter(seed=2).row(0, named=True)
    assert (old["sync_bn"], old["power_of_two"], old["accuracy"]) == (True, None, 70.0)


def load_often(root: str) -> None:
    for _ in range(5):
        mqbench.records(root)


def put_many(root: str, start: int) -> None:
    for seed in range(start, start + 20):
        Store(root).put(record(seed))


def test_readers_and_writers_at_once(store: Store) -> None:
    fill(store.root, range(1000, 1256))  # the workers go by the real number
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=put_many, args=(str(store.root), MANY + 100 * i)) for i in range(2)]
    jobs += [context.Process(target=load_often, args=(str(store.root),)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    assert mqbench.records(store).equals(expected(store))
    assert len(indexes(store)) == 1


def test_every_field_of_a_setting_has_a_column() -> None:
    assert {*Setting.model_fields} - {"bits"} <= set(schema())
    assert schema()["sync_bn"] is bool
    assert schema()["graph"] is int
    assert schema()["learning_rate"] is float
    assert schema()["granularity"] is str


def notes(store: Store) -> list[Path]:
    return sorted(store.root.glob(".notes-*"))


@pytest.fixture
def noted(store: Store) -> Store:
    """A large store, and records that were put into it."""
    for seed in range(MANY, MANY + 5):
        store.put(record(seed))
    return store


def test_what_is_put_into_a_large_store_is_not_opened(noted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = expected(noted)
    opened = []
    real = Store.get

    def get(self: Store, which: str | Setting) -> Record | None:
        opened.append(which)
        return real(self, which)

    monkeypatch.setattr(Store, "get", get)
    assert len(notes(noted)) == 1
    assert mqbench.records(noted).equals(truth)
    assert len(opened) == MANY, "those that were there before notes were taken"
    assert notes(noted) == [], "the index has them"
    opened.clear()
    assert mqbench.records(noted).equals(truth)
    assert opened == []


def test_a_small_store_takes_no_notes(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    store.put(record(0))
    assert os.listdir(store.root) == [record(0).setting.key]


@pytest.mark.parametrize("damage", ["cut", "mixed", "garbage", "empty"])
def test_damaged_notes_do_no_harm(noted: Store, damage: str) -> None:
    truth = expected(noted)
    (path,) = notes(noted)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-30],
            "mixed": content[:500] + content[200:],
            "garbage": b"\xff\x00{]\n" + content,
            "empty": b"",
        }[damage]
    )
    assert mqbench.records(noted).equals(truth)


def test_a_note_about_a_record_that_lost_or_changed_does_not_count(noted: Store) -> None:
    noted.put(record(MANY, accuracy=1.0))  # the first one stays; a note may say otherwise
    path = noted.root / record(MANY + 1).setting.key / "record.json"
    path.write_text(path.read_text().replace("70.0", "12.5"))
    found = mqbench.records(noted)
    assert found.filter(seed=MANY)["accuracy"].item() == 70.0
    assert found.filter(seed=MANY + 1)["accuracy"].item() == 12.5
    assert index.differences(noted) == []


def test_notes_of_another_version_are_left_alone(noted: Store) -> None:
    other = noted.root / ".notes-00000000-host.jsonl"
    other.write_text('{"key": "0"}\n')
    assert mqbench.records(noted).equals(expected(noted))
    assert notes(noted) == [other]
