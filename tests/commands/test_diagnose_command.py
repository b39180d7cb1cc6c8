"""`mqbench diagnose` with a network that it trains."""

import json
from pathlib import Path

import polars
import pytest

from mqbench import cli

Capture = pytest.CaptureFixture[str]
COMMAND = [
    "diagnose",
    "digits_resnet",
    "--dataset",
    "digits",
    "--backend",
    "snpe",
    "--bits",
    "4",
    "--float-epochs",
    "1",
    "--images",
    "40",
]


def test_tables_advice_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*COMMAND, "-o", "out", "--sensitivity-images", "20", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("40 images: top-1 ")
    assert "Sensitivities are of 20 images." in printed
    assert "layer1.0.conv1" in printed
    assert printed.rstrip().splitlines()[-1].startswith("- ")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<svg") == 2
    assert "layer1.0.conv1" in page
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    layers = polars.read_parquet(tmp_path / "out" / "layers.parquet")
    assert [row["layer"] for row in found["layers"]] == layers["layer"].to_list()
    assert polars.read_parquet(tmp_path / "out" / "quantizers.parquet").height == len(found["quantizers"])
    assert list(tmp_path.glob(".*")) == []

    assert cli.main([*COMMAND, "-o", "out"]) == 2
    assert "out exists already and is not empty" in capsys.readouterr().err

    wide = [*COMMAND, "--layer-bits", "layer1.0.conv1=8", "--sensitivity-images", "0", "--json"]
    assert cli.main(wide) == 0
    again = json.loads(capsys.readouterr().out)
    bits = {row["layer"]: row["weight_bits"] for row in again["layers"]}
    assert bits == {name: 8 if name in ("layer1.0.conv1", "conv1", "fc") else 4 for name in bits}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layer-bits", "fc"], "name=value is expected"),
        (["--layer-bits", "fc=eight"], "LAYER=BITS with a whole number, got fc=eight"),
        (["--layer-bits", "nope=8"], "cannot give bits to 'nope'"),
        (["--backend", "snappy"], "unknown backend 'snappy'"),
    ],
)
def test_wrong_requests(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = [x for x in COMMAND if x not in ("--backend", "snpe")] if "--backend" in options else COMMAND
    assert cli.main([*wrong, *options]) == 2
    assert said in capsys.readouterr().err
