"""mqbench paper: tables, figures and claims."""

import json

import pytest

from mqbench import cli

Capture = pytest.CaptureFixture[str]


def test_a_table(capsys: Capture) -> None:
    assert cli.main(["paper", "table", "7", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 120
    assert (rows[0]["architecture"], rows[0]["accuracy"], rows[0]["backend"]) == (
        "resnet18",
        70.7,
        "academic",
    )
    assert cli.main(["paper", "table", "8"]) == 0
    text = capsys.readouterr().out
    assert "quantizer_weight_decay" in text.splitlines()[0]
    assert "bn_folding" not in text, "columns without a value are left out"


def test_a_figure(capsys: Capture) -> None:
    assert cli.main(["paper", "figure", "6-left", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 20


def test_the_claims(capsys: Capture) -> None:
    assert cli.main(["paper", "claims", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {f["verdict"] for f in found} == {"reproduced", "partly", "not reproduced", "undecidable"}
    assert cli.main(["paper", "claims", "5.3"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == "3 claims: 3 reproduced, 0 partly, 0 not reproduced, 0 undecidable."


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("paper table 3", "Tables 4 to 11"),
        ("paper table seven", "Tables 4 to 11"),
        ("paper table", "which table?"),
        ("paper figure 7", "5, 6-left and 6-right"),
        ("paper claims 9", "unknown section"),
        ("paper tables 7", "did you mean 'table'"),
    ],
)
def test_refusals(command: str, sentence: str, capsys: Capture) -> None:
    assert cli.main(command.split()) == 2
    assert sentence in capsys.readouterr().err
