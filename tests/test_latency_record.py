"""Latencies as records: keys, files, rows, table, and the command that makes them."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from mqbench.cli import main
from mqbench.errors import StoreError
from mqbench.latency_record import LatencyRecord, LatencySetting, Precision, latency_records, put_latency
from mqbench.merge import merge
from mqbench.report.latency import latency_rows, latency_table
from mqbench.store import Store


def record(precision: Precision, milliseconds: tuple[float, ...], *, batch: int = 1) -> LatencyRecord:
    setting = LatencySetting(
        architecture="resnet18",
        runtime="openvino",
        precision=precision,
        backend="tvm",
        batch_size=batch,
        image_size=224,
        threads=1,
    )
    return LatencyRecord(
        setting=setting,
        milliseconds=milliseconds,
        cpu_milliseconds=tuple(time / 2 for time in milliseconds),
        passes=3,
        warmup=2,
        engine_version="1.0",
    )


def test_round_trip_and_replacement(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    first = put_latency(store, record("int8", (3.0, 1.0, 2.0)))
    assert put_latency(store, record("int8", (5.0, 4.0))) == first
    put_latency(store, record("float", (8.0,)))
    found = {r.setting.precision: r for r in latency_records(store)}
    assert found["int8"].milliseconds == (5.0, 4.0)
    assert (found["int8"].median, found["int8"].spread) == (4.5, 1.0)
    assert list(store) == []  # not mistaken for runs
    assert [p.name for p in (tmp_path / "runs" / "latency").iterdir() if p.name.startswith(".")] == []


def test_stores_at_a_url_and_merging(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    far = Store(f"memory://{tmp_path.name}/latencies")
    put_latency(far, record("int8", (3.0,)))
    put_latency(far, record("int8", (2.0,)))
    assert [r.milliseconds for r in latency_records(far)] == [(2.0,)]
    assert list(far) == []
    far.clean()
    near = Store(tmp_path / "runs")
    put_latency(near, record("int8", (9.0,)))
    put_latency(far, record("float", (8.0,)))
    merge([far], near)
    assert {r.setting.precision: r.milliseconds for r in latency_records(near)} == {
        "int8": (9.0,),
        "float": (8.0,),
    }


def test_key_is_of_the_setting_alone() -> None:
    assert record("int8", (1.0,)).setting.key == record("int8", (2.0,)).setting.key
    assert record("int8", (1.0,)).setting.key != record("float", (1.0,)).setting.key
    assert record("int8", (1.0,)).setting.key == "c8cc3eface96a6e0"


def test_damaged_and_newer_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    path = put_latency(store, record("int8", (1.0,)))
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"schema_version": 99}))
    with pytest.raises(StoreError, match="newer mqbench"):
        list(latency_records(store))
    path.write_text(path.read_text()[:20])
    with pytest.raises(StoreError, match="damaged measurement"):
        list(latency_records(store))
    with pytest.raises(StoreError, match="no folder"):
        put_latency(Store(tmp_path / "none" / "runs"), record("int8", (1.0,)))


def test_rows_and_table() -> None:
    rows = latency_rows(
        [record("int8", (2.0, 2.2, 1.8)), record("float", (5.0,)), record("int8", (9.0,), batch=8)]
    )
    assert [(row["batch_size"], row["precision"]) for row in rows] == [(1, "FP32"), (1, "INT8"), (8, "INT8")]
    assert rows[0]["cells"]["resnet18"]["speedup"] is None
    assert rows[1]["cells"]["resnet18"] == {
        "milliseconds": 2.0,
        "spread": pytest.approx(0.4),
        "speedup": 2.5,
        "runs": 3,
    }
    assert rows[2]["cells"]["resnet18"]["speedup"] is None  # no float partner of that batch
    used = latency_rows([record("int8", (2.0, 3.0)), record("float", (5.0,))], cpu=True)
    assert (used[1]["cells"]["resnet18"]["milliseconds"], used[1]["cells"]["resnet18"]["speedup"]) == (
        1.25,
        2.0,
    )
    console = Console(width=200)
    with console.capture() as capture:
        console.print(latency_table(rows, ["resnet18", "resnet50"]))
    printed = capture.get()
    assert "openvino 1.0, 1 thread" in printed
    assert "2.00 (2.50)" in printed
    assert printed.count(" -") >= 3


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    store = str(tmp_path / "runs")
    command = ["latency", "resnet20", "--runtime", "torch_fbgemm", "--image-size", "16", "--batch-size", "2"]
    assert main([*command, "--runs", "2", "--store", store, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["precision"] for row in found["rows"]] == ["FP32", "INT8"]
    assert {r["setting"]["batch_size"] for r in found["records"]} == {2}
    assert all(len(r["milliseconds"]) == 2 for r in found["records"])
    assert main(["latency", "--show", "--store", store]) == 0
    assert "torch_fbgemm" in capsys.readouterr().out
    assert main(["latency", "resnet20", "--runtime", "tensorflow", "--store", store]) == 2
    assert "unknown runtime 'tensorflow'" in capsys.readouterr().err
    assert main(["latency", "resnet21", "--store", store]) == 2
    assert "unknown architecture 'resnet21'" in capsys.readouterr().err
