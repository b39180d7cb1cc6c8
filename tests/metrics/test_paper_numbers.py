"""Fig. 5, Fig. 6 and the win shares, from Table 7."""

import pytest

from mqbench import metrics, paper
from mqbench.paper.transcription import PER_CHANNEL, PER_TENSOR, lines
from mqbench.record import Record, Setting

TABLE = paper.records(7)


def printed(name: str) -> dict[tuple[str, str], float]:
    frame = paper.figure(name)
    first, second = frame.columns[:2]
    return {(row[first], row[second]): row["value"] for row in frame.iter_rows(named=True)}


def test_figure_5_is_the_population_deviation_over_algorithms() -> None:
    found = metrics.spread_across_algorithms(TABLE)
    figure = printed("5")
    assert found.keys() == figure.keys()
    for place, value in figure.items():
        assert found[place] == pytest.approx(value, abs=0.01 if value < 10 else 0.051)


def test_figure_6() -> None:
    left = {(architecture, algorithm): v for (architecture, algorithm), v in printed("6-left").items()}
    assert metrics.hardware_means(TABLE) == pytest.approx(left, abs=1e-6)
    assert metrics.architecture_means(TABLE) == pytest.approx(printed("6-right"), abs=1e-6)


def test_the_average_row_of_table_4() -> None:
    means = metrics.architecture_means(paper.records(4))
    for line in lines("table4_average"):
        digits = 0.051 if line["algorithm"] != "APoT" else 0.061  # printed 71.9, is 71.84
        assert means["academic", line["algorithm"].lower()] == pytest.approx(
            float(line["avg_arch_printed"]), abs=digits
        )


def test_win_shares() -> None:
    assert metrics.accuracy_wins(TABLE) == pytest.approx({"lsq": 0.52, "pact": 0.38, "dorefa": 0.1, "dsq": 0})
    assert metrics.accuracy_wins(TABLE, PER_TENSOR)["lsq"] == pytest.approx(0.9)
    assert metrics.accuracy_wins(TABLE, PER_CHANNEL) == pytest.approx(
        {"lsq": 4 / 15, "pact": 9.5 / 15, "dorefa": 1.5 / 15, "dsq": 0}
    )
    assert metrics.gap_wins(TABLE) == pytest.approx({"lsq": 0.34, "pact": 0.5, "dsq": 0.04, "dorefa": 0.12})


def record(algorithm: str, accuracy: float | None, backend: str = "tvm") -> Record:
    setting = Setting(architecture="a", dataset="d", algorithm=algorithm, backend=backend)
    return Record(setting=setting, outcome="ok" if accuracy else "not_converged", accuracy=accuracy)


def test_ties_are_split_and_academic_wins_nothing() -> None:
    tied = [record("lsq", 70.0), record("pact", 70.0), record("dsq", 60.0), record("dsq", 99.0, "academic")]
    assert metrics.accuracy_wins(tied) == {"lsq": 0.5, "pact": 0.5, "dsq": 0.0}


def test_where_nothing_converged_nobody_wins() -> None:
    nothing = [record("lsq", None, "acl"), record("pact", None, "acl")]
    assert metrics.accuracy_wins(nothing) == {}
    assert metrics.accuracy_wins([*nothing, record("lsq", 1.0), record("pact", None)]) == {"lsq": 1.0}
    # without an academic accuracy there is no gap
    assert metrics.gap_wins([record("lsq", 70.0)]) == {}
