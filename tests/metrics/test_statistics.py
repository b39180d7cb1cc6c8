"""Intervals, paired tests, rank correlations: against scipy, and where seeds cannot tell."""

import random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mqbench import metrics, paper
from mqbench.metrics import rank, student
from mqbench.record import Record, Setting

VALUES = st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=12)


@given(st.floats(0, 60), st.integers(1, 200))
def test_student_is_scipys(t: float, freedom: int) -> None:
    assert student.p_value(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9, abs=1e-14)


@given(st.floats(0.5, 0.999), st.integers(1, 100))
def test_its_quantile_is_scipys(confidence: float, freedom: int) -> None:
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert student.quantile(confidence, freedom) == pytest.approx(expected, rel=1e-8)


@given(VALUES, st.randoms(use_true_random=False))
def test_rank_correlations_are_scipys(x: list[float], draw: random.Random) -> None:
    y = [float(draw.randint(-3, 3)) for _ in x]
    for ours, theirs in ((rank.kendall, stats.kendalltau), (rank.spearman, stats.spearmanr)):
        found = ours(x, y)
        if len(set(x)) < 2 or len(set(y)) < 2:
            assert found is None
        else:
            assert found == pytest.approx(theirs(x, y).statistic, abs=1e-12)


def test_an_interval_over_three_seeds() -> None:
    found = metrics.mean_interval([70.0, 71.0, 72.0])
    assert found is not None
    low, high = stats.t.interval(0.95, 2, loc=71.0, scale=1 / 3**0.5)
    assert found.estimate == 71.0
    assert [found.low, found.high] == pytest.approx([low, high])
    assert metrics.mean_interval([70.0]) is None


def test_a_t_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw = random.Random(1)
    inside = 0
    for _ in range(1000):
        found = metrics.mean_interval([draw.gauss(70, 1) for _ in range(3)])
        assert found is not None
        inside += found.low <= 70 <= found.high
    assert 930 <= inside <= 970


def test_a_bootstrap_interval() -> None:
    draw = random.Random(2)
    values = [draw.gauss(70, 1) for _ in range(60)]
    found = metrics.bootstrap_interval(values)
    assert found is not None
    half = 1.96 * stdev(values) / 60**0.5
    assert found.low == pytest.approx(fmean(values) - half, abs=0.1)
    assert found.high == pytest.approx(fmean(values) + half, abs=0.1)
    assert metrics.bootstrap_interval(values) == found, "the same values give the same interval"
    assert metrics.bootstrap_interval(values, max) is not None
    assert metrics.bootstrap_interval(values[:4]) is None, "three or four seeds are not a population"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm(p_values: list[float]) -> None:
    found = metrics.holm(p_values)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - position)))
        assert found[index] == largest


def runs(algorithm: str, values: list[float | None], backend: str = "tvm") -> list[Record]:
    return [
        Record(
            setting=Setting(architecture="a", dataset="d", algorithm=algorithm, backend=backend, seed=seed),
            outcome="not_converged" if value is None else "ok",
            accuracy=value,
        )
        for seed, value in enumerate(values)
    ]


def test_a_paired_test_over_seeds_is_scipys() -> None:
    x, y = [70.0, 71.5, 72.0, 69.0], [69.0, 71.0, 70.0, 68.5]
    (found,) = metrics.compare([*runs("lsq", [*x]), *runs("pact", [*y])], over="seeds")
    expected = stats.ttest_rel(x, y)
    interval = expected.confidence_interval()
    assert (found.first, found.second, found.blocks) == ("lsq", "pact", 4)
    assert found.difference == pytest.approx(1.0)
    assert found.p == found.adjusted == pytest.approx(expected.pvalue)
    assert [found.low, found.high] == pytest.approx([interval.low, interval.high])
    assert found.indistinguishable is bool(expected.pvalue > 0.05)


def test_over_cells_seeds_are_averaged_first() -> None:
    records = [r for b in ("tvm", "acl", "snpe") for r in runs("lsq", [70.0, 72.0], b)]
    records += [
        r
        for b, v in zip(("tvm", "acl", "snpe"), (69.0, 70.5, 70.0), strict=True)
        for r in runs("dsq", [v], b)
    ]
    (found,) = metrics.compare(records)
    assert found.blocks == 3
    assert found.p == pytest.approx(stats.ttest_rel([71.0] * 3, [69.0, 70.5, 70.0]).pvalue)


def test_the_algorithms_of_table_7_over_its_cells() -> None:
    found = {(c.first, c.second): c for c in metrics.compare(paper.records(7))}
    assert len(found) == 6
    lsq_pact = found["lsq", "pact"]
    assert lsq_pact.blocks == 30
    assert lsq_pact.adjusted is not None
    assert lsq_pact.p is not None
    assert lsq_pact.adjusted > lsq_pact.p
    assert lsq_pact.difference > 10


def test_one_run_each_shows_nothing() -> None:
    (found,) = metrics.compare([*runs("lsq", [70.0]), *runs("pact", [50.0])])
    assert (found.p, found.indistinguishable, found.low) == (None, None, None)
    assert metrics.indistinguishable([*runs("lsq", [70.0]), *runs("pact", [50.0])]) == {}
    assert metrics.compare(runs("lsq", [70.0, 71.0])) == []


def test_which_are_indistinguishable_from_the_best() -> None:
    column = [
        *runs("lsq", [70.0, 71.0, 72.0, 71.0]),
        *runs("pact", [70.5, 70.4, 71.9, 71.1]),
        *runs("dsq", [60.0, 61.2, 61.9, 61.1]),
        *runs("dorefa", [None, None, None, None]),
    ]
    assert metrics.indistinguishable(column) == {"lsq": True, "pact": True, "dsq": False, "dorefa": False}
    apart = [r for r in column if r.setting.algorithm != "pact"]
    assert metrics.indistinguishable(apart)["lsq"] is False


def test_equal_differences_are_certain() -> None:
    assert metrics.compare([*runs("lsq", [71.0, 72.0]), *runs("pact", [70.0, 71.0])])[0].blocks == 1
    (found,) = metrics.compare([*runs("lsq", [71.0, 72.0]), *runs("pact", [70.0, 71.0])], over="seeds")
    assert (found.difference, found.p) == (1.0, 0.0)
    (same,) = metrics.compare([*runs("lsq", [71.0, 72.0]), *runs("pact", [71.0, 72.0])], over="seeds")
    assert same.p == 1.0


def test_a_clear_ranking_is_stable_and_a_close_one_is_not() -> None:
    clear = [
        *runs("lsq", [80.0, 81.0, 82.0]),
        *runs("pact", [70.0, 71.0, 72.0]),
        *runs("dsq", [60.0, 61.0, 59.0]),
    ]
    found = metrics.rank_stability(clear, resamples=200)
    assert found is not None
    assert (found.ranking, found.tau, found.first_again) == (("lsq", "pact", "dsq"), 1.0, 1.0)
    assert found.ranks == {"lsq": (1, 1), "pact": (2, 2), "dsq": (3, 3)}
    close = [*runs("lsq", [70.0, 72.0, 71.0]), *runs("pact", [70.1, 71.8, 71.0])]
    loose = metrics.rank_stability(close, resamples=200)
    assert loose is not None
    assert 0.2 < loose.first_again < 0.8
    assert loose.tau < 0.7
    lost = [
        r.model_copy(update={"outcome": "not_converged", "accuracy": None}) for r in runs("dsq", [1.0, 1.0])
    ]
    caution = metrics.rank_stability([*clear[:6], *lost], resamples=20)
    assert caution is not None
    assert "In 1 of these cells a run did not converge" in caution.caution
    assert found.caution == ""
    assert metrics.rank_stability(paper.records(7)) is None, "one run a cell says nothing about seeds"


def test_agreement_of_a_study_with_itself_and_with_its_reverse() -> None:
    table = paper.records(7)
    same = metrics.agreement(table, table)
    assert same is not None
    assert [same.tau, same.rho, same.within_backends] == pytest.approx([1, 1, 1])
    assert same.cells == 24
    turned = [r.model_copy(update={"accuracy": 100 - (r.accuracy or 0), "outcome": "ok"}) for r in table]
    against = metrics.agreement(turned, table)
    assert against is not None
    assert against.tau == pytest.approx(-1)


def test_agreement_between_architectures_of_the_paper() -> None:
    """Even ImageNet networks agree with each other in part only: what a proxy can at most hope for."""
    table = paper.records(7)

    def of(name: str) -> list[Record]:
        return [r for r in table if r.setting.architecture == name]

    found = metrics.agreement(of("resnet18"), of("mobilenetv2"))
    assert found is not None
    x = {(r.setting.algorithm, r.setting.backend): metrics.accuracy(r) for r in of("resnet18")}
    y = {(r.setting.algorithm, r.setting.backend): metrics.accuracy(r) for r in of("mobilenetv2")}
    assert found.tau == pytest.approx(stats.kendalltau([x[k] for k in x], [y[k] for k in x]).statistic)
    assert found.chance == pytest.approx(0.29, abs=0.005)
    assert metrics.agreement(of("resnet18")[:2], of("mobilenetv2")) is None
