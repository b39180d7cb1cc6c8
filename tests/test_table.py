"""The table of the results, as data and as text."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from mqbench.record import Record, Setting
from mqbench.report.agreement import AGREEMENT, in_place_of_accuracy
from mqbench.report.rows import averages, rows
from mqbench.report.table import ResultTable
from test_metrics import BACKENDS, paper, record


def shown(records: list[Record], *, width: int = 10_000, terminal: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None, highlight=False)
    console.print(ResultTable(rows(records), averages(records)))
    return file.getvalue()


def full(seeds: int = 3, **fields: Any) -> list[Record]:
    return [
        record(70.0 + seed - index, backend=backend, seed=seed, float_accuracy=71.0, **fields)
        for index, backend in enumerate(BACKENDS)
        for seed in range(seeds)
    ]


def line(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def entry(records: list[Record], backend: str) -> dict[str, Any]:
    found: dict[str, Any] = rows(records)[0]["backends"][backend]
    return found


def test_a_row_as_data() -> None:
    (row,) = rows(full())
    assert (row["architecture"], row["algorithm"], row["bits"]) == ("resnet18", "lsq", [4, 4])
    assert (row["label"], row["float_accuracy"]) == ("", 71.0)
    assert row["backends"]["tvm"] == {
        "mean": 68.0,
        "spread": 1.0,
        "gap": 3.0,
        "seeds": 3,
        "not_converged": 0,
        "nc_kinds": {},
        "failed": 0,
        "deployable": True,
        "best": True,
        "indistinguishable": None,
    }
    assert row["backends"]["academic"]["gap"] is None
    assert (row["hardware_mean"], row["hardware_std"]) == (68.0, pytest.approx(2**0.5))
    assert json.loads(json.dumps(rows(full()))) == rows(full())


def test_the_paper_as_text() -> None:
    text = shown(paper())
    assert line(text, "Academic").split() == [
        "Architecture",
        "FP",
        "Algorithm",
        *("Academic", "TensorRT", "ACL", "TVM", "SNPE", "FBGEMM"),
        *("Avg.", "HW"),
    ]
    cells = line(text, "resnet18").split()
    assert cells == [
        *("resnet18", "-", "lsq", "70.7*"),
        *("69.3*", "(1.4)", "70.2*", "(0.5)", "67.7*", "(3.0)", "69.7*", "(1.0)", "69.8*", "(0.9)"),
        "69.3±0.87",
    ]
    pact = next(line for line in text.splitlines() if " pact " in line).split()
    assert pact == [
        "pact",
        "76.3",
        "76.3*",
        "(0.0)",
        "76.1",
        "(0.2)",
        "NC",
        "NC",
        "76.6*",
        "(-0.3)",
        "45.8±37.40",
    ]
    assert "NC: not converged" in text


def test_known_backends_come_first_in_the_order_of_the_paper() -> None:
    extra = [record(1.0, backend=name) for name in ("zeta", "fbgemm", "alpha", "academic", "tvm")]
    header = line(shown(extra), "Academic").split()
    assert header[3:8] == ["Academic", "TVM", "FBGEMM", "alpha", "zeta"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_best_of_each_column_and_architecture(backend: str) -> None:
    records = full() + full(algorithm="pact", architecture="resnet50")
    records += [record(69.0, algorithm="dsq", backend=name) for name in BACKENDS]
    best = {(r["architecture"], r["algorithm"]): r["backends"][backend]["best"] for r in rows(records)}
    academic_to_acl = backend in BACKENDS[:3]  # means 71, 70, 69, 68, 67, 66 against 69
    assert best[("resnet18", "lsq")] == academic_to_acl
    assert best[("resnet18", "dsq")] == (backend in BACKENDS[2:])
    assert best[("resnet50", "pact")]


def test_nothing_is_best_where_nothing_converged() -> None:
    assert not entry([record(None)], "academic")["best"]
    assert not entry([record(failed=True)], "academic")["best"]


def test_the_best_is_bold_on_a_terminal_and_starred_in_a_pipe() -> None:
    records = [record(70.0), record(60.0, algorithm="dsq")]
    console = Console(width=200, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(ResultTable(rows(records), averages(records)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1m70.0\x1b[0m" in text
    assert "\x1b[1m60.0" not in text
    assert "*" not in text
    plain = shown(records)
    assert "70.0*" in plain
    assert "60.0*" not in plain
    assert "\x1b" not in plain


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record(None, seed=s) for s in range(3)], "NC"),
        ([record(None, seed=0), record(60.0, seed=1), record(60.0, seed=2)], "40.0±34.6* NC 1/3"),
        ([record(failed=True, seed=0), record(60.0, seed=1), record(62.0, seed=2)], "61.0±1.4* fail 1/3"),
        ([record(failed=True, seed=0), record(None, seed=1)], "NC NC 1/2 fail 1/2"),
        ([record(failed=True, seed=s) for s in range(2)], "failed"),
        ([record(60.0, deployable=False)], "60.0*†"),
    ],
)
def test_marks(records: list[Record], expected: str) -> None:
    text = line(shown(records), "resnet18")
    assert " ".join(text.split()) == f"resnet18 - lsq {expected} -"


def test_the_kinds_of_nc_are_told() -> None:
    kinds = ["exploding scale", "dead activations", "exploding scale"]
    records = [record(None, seed=s).model_copy(update={"nc_kind": kind}) for s, kind in enumerate(kinds)]
    said = " ".join(shown(records).split())
    assert "NC: not converged (exploding scale 2, dead activations 1), counts as 0." in said


def test_a_cell_with_fewer_runs_says_how_many() -> None:
    records = [*full(), record(50.0, algorithm="dsq")]
    assert "n=1" in line(shown(records), " dsq ")
    assert "n=" not in line(shown(records), " lsq ")
    assert "n: runs there are" in shown(records)


def test_an_average_over_some_of_the_hardware_says_so() -> None:
    records = [*full(1), record(50.0, algorithm="dsq", backend="tvm")]
    assert line(shown(records), " dsq ").split()[-3:] == ["50.0", "of", "1"]
    assert "of 5" not in shown(records)


def test_what_varies_labels_the_rows() -> None:
    base = record().setting
    changes: list[dict[str, Any]] = [
        {},
        {"bits": (4, 8)},
        {"bn_folding": 2},
        {"graph": 3, "learning_rate": 0.01},
    ]
    records = [record().model_copy(update={"setting": base.model_copy(update=change)}) for change in changes]
    labels = [row["label"] for row in rows(records)]
    assert labels == ["w4a4", "w4a8", "w4a4 fold 2", "w4a4 graph 3 lr 0.01"]
    assert all(label in shown(records) for label in labels)


def test_rows_of_an_architecture_stay_together() -> None:
    names = ["a", "b"]
    records = [record(algorithm=g, architecture=a) for g in ("lsq", "dsq") for a in names]
    assert [(r["architecture"], r["algorithm"]) for r in rows(records)] == [
        ("a", "lsq"),
        ("a", "dsq"),
        ("b", "lsq"),
        ("b", "dsq"),
    ]


def test_averages_over_architectures() -> None:
    lsq, dsq = (next(row for row in averages(paper()) if row["algorithm"] == name) for name in ("lsq", "dsq"))
    assert "architecture" not in lsq
    assert lsq["architectures"] == 5
    assert lsq["backends"]["academic"]["mean"] == pytest.approx(72.8)
    assert dsq["backends"]["tvm"]["mean"] == pytest.approx(47.08)  # NC counts as 0
    assert json.loads(json.dumps([lsq, dsq])) == [lsq, dsq]
    text = shown(paper())
    found = line(text, "Avg. Arch.").split()
    assert found[:6] == ["Avg.", "Arch.", "-", "lsq", "72.8±2.5", "70.2±3.8"]
    assert found[-1] == "-"
    assert "Avg. Arch.: mean" in text


def test_an_average_over_some_of_the_architectures_says_so() -> None:
    records = [record(60.0), record(70.0, architecture="b"), record(50.0, backend="tvm")]
    (row,) = averages(records)
    assert row["backends"]["tvm"] == {"mean": 50.0, "std": 0.0, "count": 1}
    assert line(shown(records), "Avg. Arch.").split()[3:] == ["lsq", "65.0±5.0", "50.0", "of", "1", "-"]


def test_one_architecture_has_no_average() -> None:
    assert averages(full()) == []
    assert "Avg. Arch." not in shown(full())


def test_a_lone_float_network_has_a_row() -> None:
    lone = Record(setting=Setting(architecture="x", dataset="d", seed=2), outcome="ok", accuracy=91.0)
    (row,) = rows([lone])
    assert (row["algorithm"], row["float_accuracy"], row["backends"]) == ("float", 91.0, {})
    assert "91.0" in shown([lone])
    assert [r["algorithm"] for r in rows([record(), lone])] == ["lsq", "float"]


def test_no_records() -> None:
    assert rows([]) == []
    assert "No records yet." in shown([])


def test_it_fits_100_columns_and_hides_nothing() -> None:
    records = [
        r
        for algorithm in ("lsq", "pact", "dorefa", "dsq")
        for r in full(algorithm=algorithm, architecture="digits_resnet")
    ]
    records[5] = records[5].model_copy(update={"outcome": "not_converged"})
    text = shown(records, width=100, terminal=True)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for value in ("digits_resnet ", "71.0±1.0 ", "(5.0)", "68.0±1.41", "NC 1/3"):
        assert value in text, value


ALGORITHMS = ("lsq", "pact", "dorefa_scaled")
NUMBERS = {f"{70 - index}.0±1.0" for index in range(-1, 5)} | {f"({gap}.0)" for gap in range(1, 6)}


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_breaks_no_number_and_no_word(width: int) -> None:
    names = ("digits_resnet", "efficientnet_lite0")
    records = [r for n in names for g in ALGORITHMS for r in full(algorithm=g, architecture=n)]
    records[5] = records[5].model_copy(update={"outcome": "not_converged"})
    text = shown(records, width=width, terminal=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    titles = {"TensorRT", "FBGEMM", "Avg.", "Algorithm", "68.0±1.41", "46.3±40.1", "(24.7)", "1/3"}
    assert {*ALGORITHMS, *NUMBERS, *titles} <= set(text.replace("≈", "").split())
    for name in names:
        assert f"{name}, FP 71.0" in text.splitlines()


def test_80_columns_keep_a_column_for_each_backend() -> None:
    text = shown(full(algorithm="dorefa_scaled", architecture="digits_resnet"), width=80, terminal=True)
    header = ["Algorithm", "Academic", "TensorRT", "ACL", "TVM", "SNPE", "FBGEMM", "Avg.", "HW"]
    assert line(text, "Algorithm").split() == header
    assert line(text, "dorefa").split()[1:3] == ["71.0±1.0", "70.0±1.0"]


def test_a_long_label_does_not_cost_the_columns() -> None:
    base = record().setting
    changes: list[dict[str, Any]] = [{}, {"graph": 3, "learning_rate": 0.01, "weight_calibration": "minmax"}]
    records = [record().model_copy(update={"setting": base.model_copy(update=change)}) for change in changes]
    text = shown(records, width=40, terminal=True)
    assert line(text, "Academic").split() == ["Algorithm", "Academic", "Avg.", "HW"]
    assert max(map(len, text.splitlines())) <= 40
    assert "graph 3" in text
    assert "0.01" in text


def test_what_seeds_cannot_tell_apart_is_marked() -> None:
    close = [*full(), *full(algorithm="pact")]
    close = [
        r.model_copy(update={"accuracy": (r.accuracy or 0) + (0.1 if r.setting.seed else -0.3)})
        if r.setting.algorithm == "pact"
        else r
        for r in close
    ]
    far = [r.model_copy(update={"accuracy": 20.0 + r.setting.seed * 1.1}) for r in full(algorithm="dsq")]
    found = {row["algorithm"]: row["backends"]["tvm"] for row in rows([*close, *far])}
    assert found["lsq"]["best"]
    assert [found[name]["indistinguishable"] for name in ("lsq", "pact", "dsq")] == [True, True, False]
    text = shown([*close, *far])
    assert "≈" in line(text, " pact ")
    assert "≈" not in line(text, " dsq ")
    assert "≈: not shown to differ" in text
    assert "≈" not in shown(full())


def test_agreement_in_place_of_accuracy() -> None:
    records = [found.model_copy(update={"agreement": 90.0 + found.setting.seed}) for found in full()]
    instead = [in_place_of_accuracy(found) for found in records]
    assert rows(instead)[0]["backends"]["snpe"]["mean"] == 91.0
    float_record = Record(
        setting=Setting(architecture="a", dataset="d"), outcome="ok", accuracy=71.0, float_accuracy=71.0
    )
    failed = record(None, failed=True)
    assert in_place_of_accuracy(float_record) == float_record
    assert in_place_of_accuracy(failed).accuracy is None
    file = io.StringIO()
    Console(file=file, width=200, color_system=None).print(ResultTable(rows(instead), quantity=AGREEMENT))
    assert "91.0±1.0" in file.getvalue()
    assert "Images classified as by the float network, % of imagenet at w4a4" in file.getvalue()
