"""The paper's tables as frames: the columns of records, the numbers as printed."""

import subprocess
import sys

import polars
import pytest

import mqbench
from mqbench.columns import schema
from mqbench.errors import RequestError
from mqbench.paper.transcription import lines
from mqbench.record import Setting


@pytest.mark.parametrize(
    ("table", "rows", "own"),
    [
        (4, 30, {"reported_accuracy"}),
        (5, 28, set()),
        (6, 12, set()),
        (7, 120, {"printed_gap", "printed_hardware_mean", "printed_hardware_std"}),
        (8, 7, set()),
        (9, 120, {"device", "precision", "images", "latency_ms", "printed_speedup", "note"}),
        (10, 46, {"printed_spread"}),
        (11, 21, set()),
    ],
)
def test_tables_have_the_columns_of_records_and_their_own(table: int, rows: int, own: set[str]) -> None:
    frame = mqbench.paper.table(table)
    assert frame.height == rows
    assert frame.columns[: len(schema())] == list(schema())
    assert set(frame.columns[len(schema()) :]) == own
    empty = polars.DataFrame(schema=schema()).schema
    assert {name: frame.schema[name] for name in schema()} == dict(empty)


def test_table_7_has_the_numbers_of_the_other_transcription() -> None:
    # table7.csv was copied row by row, table7_long.csv cell by cell
    frame = mqbench.paper.table(7)
    titles = ("Academic", "TensorRT", "ACL", "TVM", "SNPE", "FBGEMM")
    expected = [
        None if line[title] == "NC" else float(line[title]) for line in lines("table7") for title in titles
    ]
    assert frame["accuracy"].to_list() == expected
    assert frame["outcome"].to_list() == ["not_converged" if v is None else "ok" for v in expected]
    assert set(frame["backend"]) <= set(mqbench.backends)
    assert set(frame["algorithm"]) <= set(mqbench.algorithms)
    assert set(frame["architecture"]) <= set(mqbench.architectures)


def test_a_row_is_the_setting_that_would_be_run() -> None:
    row = mqbench.paper.table(7).row(
        by_predicate=(polars.col("architecture") == "resnet18")
        & (polars.col("algorithm") == "pact")
        & (polars.col("backend") == "tvm"),
        named=True,
    )
    setting = Setting(
        architecture="resnet18", dataset="imagenet", algorithm="pact", backend="tvm", bits=(4, 4)
    )
    assert row["key"] == setting.key
    assert (row["accuracy"], row["float_accuracy"], row["seed"]) == (57.5, 71.0, None)
    assert (row["printed_gap"], row["printed_hardware_mean"], row["printed_hardware_std"]) == (
        13.0,
        67.2,
        4.87,
    )


def test_particular_columns() -> None:
    folding = mqbench.paper.table(5).filter(architecture="mobilenetv2", algorithm="lsq", bn_folding=4)
    assert dict(zip(folding["sync_bn"], folding["accuracy"], strict=True)) == {True: 70.1, False: 64.8}
    latency = mqbench.paper.table(9)
    assert latency.filter(polars.col("note") == "illegible")["latency_ms"].null_count() == 24
    assert latency.filter(device="Tesla T4", images=1, precision="FP16", architecture="resnet18")[
        "latency_ms"
    ].to_list() == [0.54]
    ptq = mqbench.paper.table(10).row(0, named=True)
    assert (ptq["algorithm"], ptq["weight_bits"], ptq["activation_calibration"]) == ("ptq", 8, "minmax")
    first = mqbench.paper.table(11).head(3)
    assert first["accuracy"].to_list() == [70.7, 1.1, 51.3]
    assert first["bn_calibration"].to_list() == [0, 0, 4096]
    assert (first["algorithm"].to_list(), first["calibrated_accuracy"][0]) == (["lsq", "ptq", "ptq"], 1.1)
    assert (
        mqbench.paper.table(4).filter(architecture="resnet50", algorithm="qil")["reported_accuracy"].item()
        is None
    )


@pytest.mark.parametrize("table", [3, 12, "7"])
def test_other_tables_are_refused(table: int) -> None:
    with pytest.raises(RequestError, match="Tables 4 to 11"):
        mqbench.paper.table(table)


def test_figures() -> None:
    figure = mqbench.paper.figure("5")
    assert figure.filter(architecture="resnet50", backend="snpe")["value"].item() == 38.0
    right = mqbench.paper.figure("6-right")
    assert right.filter(backend="tvm", algorithm="pact")["value"].item() == 30.3
    with pytest.raises(RequestError, match="6-left"):
        mqbench.paper.figure("7")


def test_the_paper_joins_with_records() -> None:
    both = polars.concat([mqbench.paper.table(7), mqbench.paper.table(10)], how="diagonal")
    assert both.height == 166


def test_no_torch() -> None:
    code = "import sys, mqbench; mqbench.paper.table(7); mqbench.paper.recompute(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
