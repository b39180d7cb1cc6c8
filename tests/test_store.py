"""The store: whole records or none, whoever writes and whatever kills them."""

import json
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqbench import record_file
from mqbench.errors import StoreError
from mqbench.frame import records
from mqbench.record import SCHEMA_VERSION, CurvePoint, Provenance, Record, Setting
from mqbench.store import Store
from processes import environment, until

SETTING = Setting(architecture="a", dataset="d", algorithm="lsq", backend="tvm", bits=(4, 8), seed=3)
PROVENANCE = Provenance(
    started="2026-01-01T00:00:00", seconds=1.5, hostname="h", machine="m", threads=1, python="3", versions={}
)
OK = Record(setting=SETTING, outcome="ok", accuracy=70.25, float_accuracy=71.0, provenance=PROVENANCE)
FAILED = Record(setting=SETTING, outcome="failed", reason="boom", error="Traceback")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def leftover(store: Store, state: str, pid: int, host: str | None = None) -> Path:
    folder = store.root / f".{state}.{host or socket.gethostname()}.{pid}.0123abcd.{SETTING.key}"
    record_file.write(folder, FAILED, {})
    return folder


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_is_put_is_got(store: Store) -> None:
    assert store.get(SETTING) is None
    assert SETTING not in store
    store.put(OK, {"weights.safetensors": b"\x00w"})
    assert store.get(SETTING) == store.get(SETTING.key) == OK
    assert SETTING in store
    assert SETTING.key in store
    assert list(store) == [OK]
    assert store.file(SETTING, "weights.safetensors").read_bytes() == b"\x00w"
    assert sorted(os.listdir(store.root)) == [SETTING.key]
    with pytest.raises(StoreError, match=r"no file weights\.bin"):
        store.file(SETTING, "weights.bin")


@given(
    st.floats(0, 100),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_json_both_ways(
    tmp_path_factory: pytest.TempPathFactory, accuracy: float, loss: float, reason: str
) -> None:
    point = CurvePoint(
        epoch=0, learning_rate=0.1, train_loss=loss, train_accuracy=accuracy, test_accuracy=accuracy
    )
    record = Record(
        setting=SETTING, outcome="not_converged", accuracy=accuracy, reason=reason, curve=(point,)
    )
    store = Store(tmp_path_factory.mktemp("runs"))
    store.put(record)
    back = store.get(SETTING)
    assert back is not None
    assert record_file.text(back) == record_file.text(record)
    assert back.accuracy == accuracy
    assert back.reason == reason
    assert back.curve[0].train_loss == loss or (math.isnan(loss) and math.isnan(back.curve[0].train_loss))


def test_provenance_lies_apart_and_the_record_is_the_same_bytes(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    store.put(OK)
    other.put(OK.model_copy(update={"provenance": PROVENANCE.model_copy(update={"seconds": 9.0})}))
    one, two = store.root / SETTING.key, other.root / SETTING.key
    assert (one / "record.json").read_bytes() == (two / "record.json").read_bytes()
    assert "provenance" not in json.loads((one / "record.json").read_text())
    assert json.loads((two / "provenance.json").read_text())["seconds"] == 9.0


def test_the_first_record_stays(store: Store) -> None:
    store.put(OK)
    for replace in (False, True):
        store.put(OK.model_copy(update={"accuracy": 1.0}), {"x": b""}, replace=replace)
        store.put(FAILED, replace=replace)
    assert list(store) == [OK]
    assert sorted(os.listdir(store.root / SETTING.key)) == ["provenance.json", "record.json"]
    assert os.listdir(store.root) == [SETTING.key]


def test_a_failed_record_gives_way_only_when_asked(store: Store) -> None:
    store.put(FAILED, {"old": b""})
    store.put(OK)
    assert list(store) == [FAILED]
    store.put(OK, {"new": b""}, replace=True)
    assert list(store) == [OK]
    assert sorted(os.listdir(store.root / SETTING.key)) == ["new", "provenance.json", "record.json"]
    assert os.listdir(store.root) == [SETTING.key]


def test_a_replacement_never_loses_to_a_slower_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer puts a finished record between our look at the failed one and our move."""
    store.put(FAILED)
    raced: list[Path] = []
    real = record_file.read

    def read(folder: Path) -> Record:
        record = real(folder)
        if not raced:
            raced.append(folder)
            store.put(OK, replace=True)
        return record

    monkeypatch.setattr(record_file, "read", read)
    store.put(OK.model_copy(update={"accuracy": 1.0}), replace=True)
    assert list(store) == [OK]
    assert os.listdir(store.root) == [SETTING.key]


@pytest.mark.parametrize("name", ["record.json", "../x", "a/b", ""])
def test_names_of_files_that_are_refused(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        store.put(OK, {name: b""})
    assert os.listdir(store.root) == []


def write_many(root: str, accuracy: float) -> None:
    for seed in range(40):
        setting = SETTING.model_copy(update={"seed": seed})
        Store(root).put(OK.model_copy(update={"setting": setting, "accuracy": accuracy}), {"w": b"w" * 9999})


def test_writers_at_once(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(str(store.root), float(i))) for i in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(record.setting.seed for record in store) == list(range(40))
    assert all(len(list((store.root / key).iterdir())) == 3 for key in os.listdir(store.root))
    assert not list(store.root.glob(".*"))


ENDLESS = """
import sys
from mqbench.store import Store
from test_store import FAILED, OK, SETTING
for seed in range(10**9):
    setting = SETTING.model_copy(update={"seed": seed % 5})
    Store(sys.argv[1]).put(FAILED.model_copy(update={"setting": setting}), {"w": b"w" * 99999}, replace=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.013, 0.05])
def test_a_killed_writer_leaves_whole_records(store: Store, after: float) -> None:
    writer = subprocess.Popen([sys.executable, "-c", ENDLESS, str(store.root)], env=environment())
    until(lambda: store.root.is_dir() and any(store))
    time.sleep(after)
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    before = len(list(store))
    store.clean()
    assert not list(store.root.glob(".*"))
    assert len(list(store)) >= before
    for key in os.listdir(store.root):
        assert sorted(os.listdir(store.root / key)) == ["record.json", "w"]
        assert store.file(key, "w").stat().st_size == 99999


def test_leftovers_of_the_dead_go_and_of_the_living_stay(store: Store) -> None:
    store.root.mkdir()
    gone = leftover(store, "new", dead_pid())
    ours = leftover(store, "new", os.getpid())
    elsewhere = leftover(store, "new", dead_pid(), "another.host")
    old = leftover(store, "new", os.getpid(), "a-third.host")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    foreign = store.root / ".keep"
    foreign.mkdir()
    store.clean()
    assert not gone.exists()
    assert not old.exists()
    assert ours.exists()
    assert elsewhere.exists()
    assert foreign.exists()
    assert list(store) == []


def test_a_failed_record_whose_replacement_was_cut_short_comes_back(store: Store) -> None:
    store.root.mkdir()
    leftover(store, "old", dead_pid())
    store.clean()
    assert list(store) == [FAILED]
    leftover(store, "old", dead_pid())
    store.clean()
    assert os.listdir(store.root) == [SETTING.key]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1}', "\x00" * 20])
def test_a_damaged_record_is_named(store: Store, content: str) -> None:
    store.put(OK)
    (store.root / SETTING.key / "record.json").write_text(content)
    for read in (lambda: store.get(SETTING), lambda: list(store), lambda: records(store)):
        with pytest.raises(StoreError, match=f"damaged record .*{SETTING.key}"):
            read()


def test_a_record_without_its_file_is_named(store: Store) -> None:
    (store.root / SETTING.key).mkdir(parents=True)
    with pytest.raises(StoreError, match=f"damaged record .*{SETTING.key}"):
        store.get(SETTING)


def test_a_record_in_the_wrong_folder_is_named(store: Store) -> None:
    store.put(OK)
    (store.root / SETTING.key).rename(store.root / ("0" * 16))
    with pytest.raises(StoreError, match="0000000000000000"):
        list(store)


def test_a_record_of_a_newer_version_is_named(store: Store) -> None:
    store.put(OK)
    path = store.root / SETTING.key / "record.json"
    fields = {**json.loads(path.read_text()), "schema_version": SCHEMA_VERSION + 1, "novelty": 1}
    path.write_text(json.dumps(fields))
    with pytest.raises(StoreError, match="newer mqbench") as caught:
        store.get(SETTING)
    assert SETTING.key in str(caught.value)


def test_other_things_in_the_folder_are_left_alone(store: Store) -> None:
    store.put(OK)
    (store.root / "notes.txt").write_text("")
    (store.root / "figures").mkdir()
    assert list(store) == [OK]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for root in (tmp_path / "no" / "runs", file, file / "runs"):
        for write in (Store(root).check_writable, lambda root=root: Store(root).put(OK)):
            with pytest.raises(StoreError, match=f"cannot write {root}: .+"):
                write()
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        Store(tmp_path / "runs").check_writable()


def test_a_check_leaves_nothing_behind(store: Store) -> None:
    store.check_writable()
    assert not store.root.exists()
    store.root.mkdir()
    store.check_writable()
    assert os.listdir(store.root) == []


def test_a_store_that_is_not_there(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        list(store)
    with pytest.raises(StoreError, match="no records"):
        store.check_readable()
    store.clean()


def test_the_frame_has_one_row_per_record(store: Store) -> None:
    store.put(OK)
    store.put(Record(setting=SETTING.float_setting, outcome="not_converged", reason="NaN"))
    frame = records(store.root)
    assert frame.columns[:3] == ["key", "architecture", "dataset"]
    assert frame.height == 2
    row = frame.row(by_predicate=polars.col("key") == SETTING.key, named=True)
    expected = {
        "architecture": "a",
        "backend": "tvm",
        "weight_bits": 4,
        "activation_bits": 8,
        "seed": 3,
        "outcome": "ok",
        "accuracy": 70.25,
        "float_accuracy": 71.0,
        "calibrated_accuracy": None,
        "deployable": True,
        "seconds": 1.5,
    }
    assert expected.items() <= row.items()
    other = frame.row(by_predicate=polars.col("key") != SETTING.key, named=True)
    assert (other["weight_bits"], other["backend"], other["reason"]) == (None, None, "NaN")


def test_the_frame_of_an_empty_store_has_the_same_columns(store: Store) -> None:
    store.root.mkdir()
    empty = records(store)
    store.put(OK)
    assert empty.schema == records(store).schema
    assert empty.schema["accuracy"] == polars.Float64
    assert empty.schema["bn_folding"] == polars.Int64


def test_a_name_that_the_system_does_not_take(tmp_path: Path) -> None:
    store = Store(tmp_path / ("n" * 300))
    for act in (store.exists, store.check_readable, store.check_writable, lambda: list(store)):
        with pytest.raises(StoreError, match=r"(?i)name too long"):
            act()


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(StoreError, match="empty name"):
        Store("")
    assert Store(".").exists()


def test_a_retired_record_is_removed_only_when_another_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(FAILED)
    there = []

    def look(path: Path, *, ignore_errors: bool) -> None:
        if path.name.startswith(".old"):
            there.append(store.get(OK.setting))

    monkeypatch.setattr("mqbench.store.shutil.rmtree", look)
    store.put(OK, replace=True)
    assert there == [OK]
