"""What stands below a table."""

import json

from mqbench import paper
from mqbench.record import Record, Setting
from mqbench.report import footer


def study(seeds: int) -> list[Record]:
    means = {"lsq": 90.0, "pact": 80.0, "dsq": 70.0}
    return [
        Record(
            setting=Setting(
                architecture="digits_resnet", dataset="digits", algorithm=a, backend=b, seed=seed
            ),
            outcome="ok",
            accuracy=mean + seed,
        )
        for a, mean in means.items()
        for b in ("academic", "tvm")
        for seed in range(seeds)
    ]


def test_the_sentences() -> None:
    stable, proxy = footer.lines(study(3))
    assert stable.startswith(
        "Ranking by the mean of 2 common cells: lsq, pact, dsq. Drawn again from the 3 seeds"
    )
    assert "first in 100 %" in stable
    assert "digits_resnet on digits against the paper's ImageNet Table 7, 6 cells: Kendall's tau" in proxy
    assert "By chance |tau| is over 0.70 in 5 %" in proxy


def test_one_seed_has_no_stability() -> None:
    (only,) = footer.lines(study(1))
    assert only.startswith("digits_resnet on digits")


def test_the_papers_cells_are_named() -> None:
    table = [r for r in paper.records(7) if r.setting.architecture == "resnet18"]
    ours = [r.model_copy(update={"accuracy": (r.accuracy or 0) - 1, "outcome": "ok"}) for r in table]
    first = next(iter(footer.lines(ours)))
    assert first.startswith("Ours / the paper's (difference): resnet18 lsq academic 69.7 / 70.7 (-1.0); ")
    assert "and 18 more" in first


def test_nothing_to_say() -> None:
    assert list(footer.lines([])) == []


def test_the_same_as_data() -> None:
    found = footer.facts(study(2))
    assert json.loads(json.dumps(found))["rank_stability"]["ranking"] == ["lsq", "pact", "dsq"]
    assert found["agreement_with_table_7"][0]["mean"]["cells"] == 6
    assert found["beside_the_paper"] == []
