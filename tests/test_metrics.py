"""The paper's numbers from the paper's Table 7."""

import pytest

from mqbench import metrics
from mqbench.record import Outcome, Record, Setting

BACKENDS = ("academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm")
# Accuracies as printed in Table 7 (None: NC), and the printed mean and standard deviation over hardware.
TABLE_7 = {
    ("resnet18", "lsq"): ((70.7, 69.3, 70.2, 67.7, 69.7, 69.8), (69.3, 0.87)),
    ("resnet18", "dsq"): ((70.0, 66.9, 69.7, 67.1, 68.9, 68.9), (68.3, 1.1)),
    ("resnet50", "lsq"): ((77.4, 76.3, 76.5, 75.9, 76.2, 76.4), (76.3, 0.21)),
    ("resnet50", "dsq"): ((76.4, 74.8, 76.2, 74.4, 75.9, 76.0), (75.5, 0.72)),
    ("resnet50", "pact"): ((76.3, 76.3, 76.1, None, None, 76.6), (45.8, 37.4)),
    ("mobilenet_v2", "lsq"): ((70.6, 66.1, 68.1, 64.5, 66.3, 65.5), (66.1, 1.18)),
    ("mobilenet_v2", "dsq"): ((69.6, 48.4, 68.3, 29.4, 41.3, 50.7), (47.6, 12.7)),
    ("mobilenet_v2", "dorefa"): ((None,) * 6, (0.0, 0.0)),
    ("efficientnet_lite0", "lsq"): ((72.6, 67.0, 65.5, 65.0, 68.6, 66.9), (66.6, 1.27)),
    ("efficientnet_lite0", "dsq"): ((72.6, 35.1, 69.6, None, 7.5, 45.9), (31.6, 25.5)),
    ("regnetx600", "lsq"): ((72.7, 72.5, 72.8, 70.0, 72.5, 72.5), (72.1, 1.04)),
    ("regnetx600", "dsq"): ((71.7, 68.6, 71.4, 64.5, 70.0, 70.0), (68.9, 2.37)),
}
# Fig. 6 right, recomputed: mean over the five architectures.
ARCHITECTURES = {
    "lsq": (72.8, 70.24, 70.62, 68.62, 70.66, 70.22),
    "dsq": (72.06, 58.76, 71.04, 47.08, 52.72, 62.3),
}


def record(
    accuracy: float | None = 70.0,
    *,
    architecture: str = "resnet18",
    algorithm: str = "lsq",
    backend: str = "academic",
    seed: int = 0,
    failed: bool = False,
    deployable: bool = True,
    float_accuracy: float | None = None,
) -> Record:
    setting = Setting(
        architecture=architecture, dataset="imagenet", algorithm=algorithm, backend=backend, seed=seed
    )
    outcome: Outcome = "failed" if failed else "not_converged" if accuracy is None else "ok"
    return Record(
        setting=setting,
        outcome=outcome,
        # A run that did not converge still has an accuracy, which must not count.
        accuracy=1.3 if accuracy is None else accuracy,
        float_accuracy=float_accuracy,
        deployable=deployable,
    )


def paper() -> list[Record]:
    return [
        record(accuracy, architecture=architecture, algorithm=algorithm, backend=backend)
        for (architecture, algorithm), (accuracies, _) in TABLE_7.items()
        for backend, accuracy in zip(BACKENDS, accuracies, strict=True)
    ]


def paper_cells() -> dict[tuple[str, str], dict[str, metrics.Cell]]:
    return {(row.architecture, row.algorithm): cells for row, cells in metrics.cells(paper()).items()}


@pytest.mark.parametrize("row", TABLE_7)
def test_hardware_robustness_is_the_printed_one(row: tuple[str, str]) -> None:
    found = metrics.hardware_robustness(paper_cells()[row])
    assert found is not None
    mean, std = TABLE_7[row][1]
    assert found.mean == pytest.approx(mean, abs=0.051)
    assert found.std == pytest.approx(std, abs=0.051 if std > 2.5 else 0.0051)
    assert found.count == 5


@pytest.mark.parametrize(("algorithm", "backend"), [(a, b) for a in ARCHITECTURES for b in BACKENDS])
def test_architecture_robustness_is_that_of_figure_6(algorithm: str, backend: str) -> None:
    column = [cells[backend] for (_, name), cells in paper_cells().items() if name == algorithm]
    found = metrics.architecture_robustness(column)
    assert found is not None
    assert found.count == 5
    assert found.mean == pytest.approx(ARCHITECTURES[algorithm][BACKENDS.index(backend)], abs=1e-9)


def test_hardware_gaps_of_the_paper() -> None:
    cells = paper_cells()

    def gap(architecture: str, algorithm: str, backend: str) -> float | None:
        row = cells[architecture, algorithm]
        return metrics.hardware_gap(row["academic"], row[backend])

    assert gap("resnet18", "lsq", "tensorrt") == pytest.approx(1.4)
    assert gap("resnet50", "pact", "fbgemm") == pytest.approx(-0.3)
    assert gap("resnet50", "pact", "tvm") == pytest.approx(76.3)  # NC counts as 0
    assert gap("mobilenet_v2", "dorefa", "tvm") is None  # academic NC
    assert gap("mobilenet_v2", "dsq", "tvm") == pytest.approx(
        40.2
    )  # printed 39.8, against its own accuracies


def test_a_cell_sums_up_seeds() -> None:
    cell = metrics.cell([record(value, seed=i) for i, value in enumerate([70.0, 71.0, 75.0])])
    assert cell.mean == 72.0
    assert cell.spread == pytest.approx(7**0.5)  # divided by n - 1
    assert (cell.seeds, cell.not_converged, cell.failed, cell.is_nc) == (3, 0, 0, False)


def test_a_seed_that_did_not_converge_counts_as_0() -> None:
    cell = metrics.cell([record(None, seed=0), record(60.0, seed=1)])
    assert (cell.mean, cell.seeds, cell.not_converged, cell.is_nc) == (30.0, 2, 1, False)
    assert metrics.cell([record(None)]).is_nc
    assert metrics.cell([record(None)]).mean == 0.0


def test_a_failed_run_is_missing_not_0() -> None:
    cell = metrics.cell([record(failed=True), record(60.0, seed=1)])
    assert (cell.mean, cell.spread, cell.seeds, cell.failed) == (60.0, None, 1, 1)
    lost = metrics.cell([record(failed=True)])
    assert (lost.mean, lost.is_nc) == (None, False)
    assert metrics.hardware_gap(lost, cell) is None
    assert metrics.hardware_gap(cell, lost) is None
    assert metrics.hardware_gap(None, cell) is None
    found = metrics.hardware_robustness({"academic": cell, "tvm": lost, "acl": cell})
    assert found == metrics.Robustness(60.0, 0.0, 1)


def test_nothing_to_be_robust_over() -> None:
    assert metrics.hardware_robustness({"academic": metrics.cell([record()])}) is None
    assert metrics.architecture_robustness([]) is None


def test_a_cell_is_deployable_if_all_its_runs_are() -> None:
    assert metrics.cell([record(), record(seed=1)]).deployable
    assert not metrics.cell([record(), record(seed=1, deployable=False)]).deployable


def test_rows_differ_in_all_but_seed_and_backend() -> None:
    more = record(seed=1).model_copy(
        update={"setting": record().setting.model_copy(update={"bn_folding": 2})}
    )
    cells = metrics.cells([record(), record(seed=1), record(backend="tvm"), more])
    assert [(row.bn_folding, sorted(found)) for row, found in cells.items()] == [
        (None, ["academic", "tvm"]),
        (2, ["academic"]),
    ]
    assert next(iter(cells.values()))["academic"].seeds == 2


def test_float_accuracy_counts_each_network_once() -> None:
    start = Setting(architecture="resnet18", dataset="imagenet")
    floats = [Record(setting=start, outcome="ok", accuracy=71.0)]
    assert metrics.float_accuracy(floats) == 71.0
    assert metrics.float_accuracy([record(float_accuracy=71.0), record(seed=1, float_accuracy=71.0)]) == 71.0
    other = start.model_copy(update={"seed": 1})
    assert metrics.float_accuracy([*floats, Record(setting=other, outcome="ok", accuracy=73.0)]) == 72.0
    assert metrics.float_accuracy([record()]) is None
