"""mqbench ladder: plans, runs and tables."""

import functools
import json
from pathlib import Path

import pytest

from mqbench import cli
from mqbench.commands import ladder as ladder_command
from mqbench.store import Store
from mqbench.sweep import sweep

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ladder_command, "sweep", functools.partial(sweep, work="standin:run"))
    return tmp_path


def test_a_plan_runs_nothing(here: Path, capsys: Capture) -> None:
    assert cli.main(["ladder", "--from", "academic", "--to", "tvm", "--plan"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("4 switches, 2 orders, 8 settings of each seed:")
    assert cli.main(["ladder", "--from", "tensorrt:graph=3", "--to", "fbgemm", "--plan", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["settings"]) == 4
    assert not (here / "runs").exists()


def test_a_walk(here: Path, capsys: Capture) -> None:
    command = "ladder --from academic --to tvm --orders all --seeds 0,1,2 --setting epochs=1"
    assert cli.main(f"{command} --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(step["loss"] for step in found["steps"]) == pytest.approx(found["start"] - found["end"])
    assert len(found["paths"]) == 24
    assert all(step["interval"]["low"] < step["loss"] < step["interval"]["high"] for step in found["steps"])
    assert len(list(Store("runs"))) == 1 + 16 * 3
    assert cli.main(command.split()) == 0
    text = capsys.readouterr().out
    assert "academic " in text.splitlines()[0]
    assert "Mean and range over 24 orders, 16 settings" in text
    assert "power_of_two False -> True" in text


def test_orders_that_are_left_out_are_counted(here: Path, capsys: Capture) -> None:
    assert cli.main(["ladder", "--from", "academic:algorithm=apot", "--to", "tvm"]) == 0
    captured = capsys.readouterr()
    assert "1 of 2 orders lead through settings that cannot run" in captured.err
    assert "Mean and range over 1 order, 6 settings" in captured.out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("--from academic --to nnie", "unknown backend 'nnie'"),
        ("--from academic --to tvm:grpah=2", "grpah"),
        ("--from academic --to tvm:graph=5", "graph"),
        ("--from academic --to tvm:graph", "not a field and its value"),
        ("--from academic --to tvm --orders some", "orders is a number or all"),
        ("--from academic --to tvm --seeds one", "whole numbers"),
        ("--from academic --to tvm --bits four", "number of bits"),
        (
            "--from academic:algorithm=apot --to tvm --orders 1",
            "every order leads through a setting that cannot run",
        ),
    ],
)
def test_refusals(here: Path, command: str, sentence: str, capsys: Capture) -> None:
    assert cli.main(["ladder", *command.split()]) == 2
    assert sentence in capsys.readouterr().err
