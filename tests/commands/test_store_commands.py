"""mqbench records, merge and reproduce."""

import json
import os
from pathlib import Path

import polars
import pytest

import mqbench
from mqbench import cli, index, journal
from mqbench.store import Store
from test_index import fill
from test_store import OK, SETTING

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    store = Store("runs")
    store.put(OK)
    store.put(
        OK.model_copy(update={"setting": SETTING.model_copy(update={"backend": "acl"}), "accuracy": 60.0})
    )
    return tmp_path


def test_records_as_text_and_json(here: Path, capsys: Capture) -> None:
    assert cli.main(["records", "--where", "backend == 'tvm'", "--columns", "backend,accuracy"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["backend", "accuracy"], ["tvm", "70.25"]]
    assert cli.main(["records", "--json", "--where", "accuracy < 65"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["backend"], row["seed"]) == ("acl", 3)


def test_no_records_is_said(here: Path, capsys: Capture) -> None:
    assert cli.main(["records", "--where", "seed = 99"]) == 0
    assert capsys.readouterr().out == "no records\n"


def test_records_beside_the_papers(here: Path, capsys: Capture) -> None:
    assert cli.main(["records", "--paper", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["source"] for row in rows].count("paper") == 120
    assert len(rows) == 122


def test_exports(here: Path, capsys: Capture) -> None:
    assert cli.main(["records", "--parquet", "all.parquet", "--csv", "all.csv"]) == 0
    assert "2 records in all.parquet and all.csv" in capsys.readouterr().out
    assert polars.read_parquet("all.parquet").equals(mqbench.records("runs"))
    assert polars.read_csv("all.csv")["accuracy"].sort().to_list() == [60.0, 70.25]
    assert sorted(os.listdir(here)) == ["all.csv", "all.parquet", "runs"]
    assert cli.main(["records", "--parquet", "no/all.parquet"]) == 2
    assert "cannot write no/all.parquet: there is no folder no" in capsys.readouterr().err


def test_pandas_reads_the_export(here: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    cli.main(["records", "--parquet", "all.parquet"])
    assert pandas.read_parquet("all.parquet")["backend"].tolist() == mqbench.records()["backend"].to_list()


def test_a_wrong_condition(here: Path, capsys: Capture) -> None:
    assert cli.main(["records", "--where", "backnd = 'tvm'"]) == 2
    assert "did you mean 'backend'" in capsys.readouterr().err


def test_a_check_of_the_index(here: Path, capsys: Capture) -> None:
    fill(here / "runs", range(100, 100 + journal.WORTHWHILE))
    assert cli.main(["records", "--check", "--columns", "key"]) == 0
    path = here / "runs" / index.name()
    polars.read_parquet(path).with_columns(accuracy=polars.lit(1.0)).write_parquet(path)
    assert cli.main(["records", "--check"]) == 2
    assert "it is made again" in capsys.readouterr().err
    assert cli.main(["records", "--check"]) == 0


def test_merge(here: Path, capsys: Capture) -> None:
    Store("other").put(OK)
    assert cli.main(["merge", "runs", "other", "-o", "both", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"store": "both", "written": 2, "kept": 0, "agreeing": 1}
    Store("third").put(OK.model_copy(update={"accuracy": 1.0}))
    assert cli.main(["merge", "runs", "third", "-o", "more"]) == 2
    assert SETTING.key in capsys.readouterr().err
    assert cli.main(["merge", "-o", "more"]) == 2
    assert cli.main(["merge", "runs", "--tolerance", "-1", "-o", "more"]) == 2


def test_reproduce(here: Path, capsys: Capture) -> None:
    axes = "--architecture digits_resnet --dataset digits --algorithm lsq --backend tvm --steps 2 --float-epochs 1"
    assert cli.main(f"run {axes} --store made --jobs 1 --json".split()) == 0
    made = json.loads(capsys.readouterr().out)["records"]
    key = next(record["key"] for record in made if record["setting"]["algorithm"] == "lsq")
    assert cli.main(f"reproduce {key} --store made --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["reproduced"], found["differences"]) == (True, [])
    path = here / "made" / key / "record.json"
    accuracy = json.loads(path.read_text())["accuracy"]
    path.write_text(path.read_text().replace(f'"accuracy": {accuracy}', f'"accuracy": {accuracy - 1.5}'))
    assert cli.main(f"reproduce made/{key} --keep-float".split()) == 1
    text = capsys.readouterr().out
    assert "NOT reproduced" in text
    assert "1.500 apart" in text
    assert cli.main(f"reproduce made/{key} --keep-float --tolerance 1.6".split()) == 0
    assert "reproduced, within 1.6 points" in capsys.readouterr().out
    assert cli.main(["reproduce", "00ff", "--store", "made"]) == 2
