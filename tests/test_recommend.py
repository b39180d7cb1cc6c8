"""Recommendations: the nearest evidence, how strong it is, and when there is too little."""

import json
from pathlib import Path

import pytest

from mqbench import cli
from mqbench.recommend import OWN, PAPER, Recommendation, recommend
from mqbench.record import Record, Setting
from mqbench.store import Store


def runs(algorithm: str, values: list[float | None], **fields: object) -> list[Record]:
    base: dict[str, object] = {
        "architecture": "mobilenetv2",
        "dataset": "flowers",
        "backend": "snpe",
        "bits": (4, 4),
    }
    return [
        Record(
            setting=Setting.model_validate({**base, "algorithm": algorithm, "seed": seed, **fields}),
            outcome="not_converged" if value is None else "ok",
            accuracy=value,
        )
        for seed, value in enumerate(values)
    ]


def asked(records: list[Record], **fields: object) -> Recommendation:
    options: dict[str, object] = {"backend": "snpe", "architecture": "mobilenetv2", **fields}
    return recommend(records, **options)  # type: ignore[arg-type]


def test_the_paper_alone() -> None:
    found = asked([])
    assert (found.algorithms, found.strength) == (("lsq",), "likely")
    assert "6.0 points before pact" in found.reason
    here = {e.algorithm: e.mean for e in found.evidence if e.place == "mobilenetv2 on imagenet"}
    assert here == {"lsq": 66.3, "pact": 60.3, "dsq": 41.3, "dorefa": 0.0}
    assert all(e.source == PAPER for e in found.evidence)
    assert [e.not_converged for e in found.evidence if e.algorithm == "dorefa"] == [1, 3]


def test_what_lies_within_the_papers_repeatability_is_no_difference() -> None:
    found = asked([], architecture="resnet18", backend="tensorrt")
    assert (found.algorithms, found.strength) == (("dorefa", "lsq", "pact"), "weak")
    assert "within 0.7 points" in found.reason


def test_own_seeds_on_the_network_go_before_the_paper() -> None:
    own = [*runs("pact", [80.0, 80.5, 81.0]), *runs("lsq", [70.0, 70.4, 71.1])]
    found = asked(own)
    assert (found.algorithms, found.strength) == (("pact",), "shown")
    assert [e.source for e in found.evidence][:2] == [OWN, OWN]
    assert any(e.source == PAPER for e in found.evidence), "the paper's numbers are there to see"


def test_own_seeds_that_cannot_tell() -> None:
    found = asked([*runs("pact", [80.0, 79.0, 81.0]), *runs("lsq", [79.5, 80.1, 80.2])])
    assert (found.algorithms, found.strength) == (("pact", "lsq"), "weak")
    assert "not told apart by 3 seeds" in found.reason


def test_few_own_runs_stand_behind_the_papers() -> None:
    own = [*runs("pact", [80.0]), *runs("lsq", [70.0])]
    assert asked(own).algorithms == ("lsq",)
    new = [*runs("pact", [80.0], architecture="resnet20"), *runs("lsq", [70.0], architecture="resnet20")]
    found = asked(new, architecture="resnet20")
    assert (found.algorithms, found.strength) == (("pact",), "likely")
    assert "few runs" in found.reason


def test_a_network_nobody_has_run() -> None:
    found = asked([], architecture="resnet20")
    assert (found.algorithms, found.strength) == (("lsq",), "weak")
    assert "no record of this network" in found.reason
    assert {e.place for e in found.evidence} == {"5 other networks"}


def test_too_little() -> None:
    found = asked([], bits=(2, 2))
    assert (found.algorithms, found.strength) == ((), "too little")
    assert "no record of snpe at w2a2" in found.reason
    only = asked(runs("lsq", [50.0, 51.0, 52.0], bits=(2, 2)), bits=(2, 2))
    assert (only.algorithms, only.strength) == ((), "too little")
    assert "lsq is the only algorithm" in only.reason
    apart = [*runs("lsq", [50.0], bits=(2, 2), epochs=1), *runs("ptq", [40.0], bits=(2, 2), epochs=0)]
    assert "no two of lsq, ptq have runs on snpe at w2a2 that differ" in asked(apart, bits=(2, 2)).reason


def test_nothing_converged_is_no_recommendation() -> None:
    own = [*runs("lsq", [None] * 3, bits=(2, 2)), *runs("pact", [None] * 3, bits=(2, 2))]
    assert asked(own, bits=(2, 2)).strength == "too little"


def test_only_the_same_setting_is_compared() -> None:
    own = [
        *runs("pact", [80.0, 80.5, 81.0], bn_folding=2),
        *runs("lsq", [70.0, 70.4, 71.1]),
        *runs("dsq", [60.0, 60.4, 61.1]),
        *runs("qil", [99.0, 99.0, 99.0], power_of_two=True),
        *runs("pact", [90.0, 90.0, 90.0], dataset="cars"),
    ]
    assert asked(own).algorithms == ("lsq",)
    assert asked(own, dataset="cars").strength == "likely"


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = "recommend --backend snpe --architecture mobilenetv2"
    assert cli.main(command.split()) == 0
    text = capsys.readouterr().out
    assert text.startswith("mobilenetv2 on snpe at w4a4: lsq (likely)\n")
    for record in [*runs("pact", [80.0, 80.5, 81.0]), *runs("lsq", [70.0, 70.4, 71.1])]:
        Store("runs").put(record)
    assert cli.main([*command.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["algorithms"] == ["pact"]
    assert cli.main(["recommend", "--backend", "nnie", "--architecture", "mobilenetv2"]) == 2
    assert cli.main([*command.split(), "--bits", "few"]) == 2
