"""mqbench compare: the algorithms of a study, or of the paper's tables."""

import json
from pathlib import Path

import pytest

import standin
from mqbench import cli
from mqbench.store import Store
from mqbench.study import load_study
from mqbench.sweep import plan

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for setting in plan(load_study("default").settings()):
        Store("runs").put(standin.record_of(setting))
    return tmp_path


def test_the_papers_table_7(capsys: Capture) -> None:
    assert cli.main(["compare", "--paper", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy_wins"]["lsq"] == pytest.approx(0.52)
    assert found["gap_wins"]["pact"] == pytest.approx(0.5)
    assert found["rank_stability"] is None
    assert {"backend": "tvm", "algorithm": "lsq", "value": pytest.approx(68.62)} in found[
        "architecture_means"
    ]
    assert [c["blocks"] for c in found["comparisons"]] == [30] * 6
    assert cli.main(["compare", "--paper", "7"]) == 0
    assert "lsq        52 %  34 %" in capsys.readouterr().out


def test_a_study(here: Path, capsys: Capture) -> None:
    assert cli.main(["compare"]) == 0
    text = capsys.readouterr().out
    assert "Ranking " in text
    assert "indistinguishable" in text
    assert cli.main(["compare", "default", "--over", "seeds", "--json", "--backend", "tvm"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {c["blocks"] for c in found["comparisons"]} == {3}
    assert found["rank_stability"]["seeds"] == 3


def test_nothing_to_compare(here: Path, capsys: Capture) -> None:
    assert cli.main(["compare", "--algorithm", "lsq"]) == 2
    assert "fewer than two algorithms" in capsys.readouterr().err
    assert cli.main(["compare", "--store", "none"]) == 2
