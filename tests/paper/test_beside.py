"""A study beside the paper, and how good a proxy it is."""

import pytest
from scipy import stats

from mqbench import metrics, paper
from mqbench.record import Record, Setting
from mqbench.study import FOLDER, load_study

TABLE = paper.records(7)


def of(accuracy: float | None, **fields: object) -> Record:
    setting = Setting.model_validate(
        {"architecture": "resnet18", "dataset": "imagenet", "algorithm": "lsq", "backend": "tvm", **fields}
    )
    return Record(setting=setting, outcome="ok" if accuracy else "not_converged", accuracy=accuracy)


def test_a_cell_of_table_7() -> None:
    (found,) = paper.beside([of(66.0, seed=0), of(67.0, seed=5, weights="timm", steps=100)][:1])
    assert (found.ours, found.papers, found.tables, found.seeds) == (66.0, 67.7, (7,), 1)
    assert found.difference == pytest.approx(-1.7)
    assert found.unlike == ()


def test_the_training_may_differ_and_is_named() -> None:
    (found,) = paper.beside([of(67.0, seed=5, weights="timm", steps=100)])
    assert found.unlike == ("steps", "weights")
    assert found.difference == pytest.approx(-0.7)


def test_seeds_are_averaged_and_nc_is_0() -> None:
    (found,) = paper.beside([of(66.0, seed=0), of(None, seed=1)])
    assert (found.ours, found.seeds) == (33.0, 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"bits": 8},
        {"dataset": "digits"},
        {"architecture": "resnet20"},
        {"bn_folding": 2},
        {"first_last_bits": 4},
        {"power_of_two": False},
        {"backend": "acl_paper_code"},
    ],
)
def test_another_quantization_is_not_the_papers(fields: dict[str, object]) -> None:
    assert paper.beside([of(66.0, **fields)]) == []


def test_cells_of_the_other_tables() -> None:
    ours = [
        of(60.0, backend="academic", algorithm="apot"),
        of(60.0, backend="academic", bn_folding=4, sync_bn=False),
        of(60.0, backend="academic", graph=2),
        of(60.0, architecture="mobilenetv2", backend="tensorrt", quantizer_weight_decay=8e-5),
        of(
            60.0,
            algorithm="ptq",
            bits=8,
            backend="snpe",
            activation_calibration="mse",
            weight_calibration="minmax",
        ),
        of(60.0, backend="academic"),
    ]
    found = {cell.tables: cell.papers for cell in paper.beside(ours)}
    assert found == {(4,): 70.5, (5,): 70.1, (6,): 70.7, (8,): 68.41, (10,): 70.7, (4, 7): 70.7}


@pytest.mark.parametrize("table", [4, 5, 6, 7, 8, 10, 11])
def test_the_study_of_a_table_has_its_cells(table: int) -> None:
    study = load_study(FOLDER / "paper" / f"table{table}.toml")
    runs = [
        Record(setting=s, outcome="ok", accuracy=50.0) for s in study.settings() if s.algorithm != "float"
    ]
    found = paper.beside(runs)
    assert len(found) == len(paper.records(table))
    assert all(table in cell.tables for cell in found)


def test_the_paper_beside_itself_differs_in_nothing() -> None:
    found = paper.beside(TABLE)
    assert len(found) == 120
    assert {cell.difference for cell in found} == {0.0}


def small(order: dict[tuple[str, str], float]) -> list[Record]:
    return [
        of(value, architecture="digits_resnet", dataset="digits", algorithm=algorithm, backend=backend)
        for (algorithm, backend), value in order.items()
    ]


def test_a_perfect_proxy_and_a_reversed_one() -> None:
    means = metrics.architecture_means(TABLE)
    truth = {(algorithm, backend): value for (backend, algorithm), value in means.items()}
    (found,) = paper.proxies(small(truth))
    assert (found.architecture, found.dataset, found.mean.cells) == ("digits_resnet", "digits", 24)
    assert found.mean.tau == pytest.approx(1)
    assert set(found.each) == {r.setting.architecture for r in TABLE}
    resnet = [r for r in TABLE if r.setting.architecture == "resnet18"]
    one = {(r.setting.algorithm, str(r.setting.backend)): metrics.accuracy(r) or 0.0 for r in resnet}
    tau = stats.kendalltau([truth[place] for place in one], list(one.values())).statistic
    assert found.each["resnet18"].tau == pytest.approx(tau)
    (against,) = paper.proxies(small({place: 100 - value for place, value in truth.items()}))
    assert against.mean.tau == pytest.approx(-1)


def test_an_architecture_of_the_paper_is_not_compared_with_itself() -> None:
    (found,) = paper.proxies([r for r in TABLE if r.setting.architecture == "resnet50"])
    assert "resnet50" not in found.each
    assert len(found.each) == 4
    assert found.mean.tau is not None
    assert found.mean.tau < 0.95


def test_too_little_in_common() -> None:
    assert paper.proxies(small({("lsq", "tvm"): 1.0, ("lsq", "acl"): 2.0})) == []
    assert paper.proxies([of(60.0, bits=8, algorithm=a) for a in ("lsq", "pact", "dsq", "dorefa")]) == []
