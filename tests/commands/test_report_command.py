"""``mqbench report`` and ``mqbench draw``: what they say, what they refuse, and their exit codes."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mqbench import cli
from mqbench.record import Record
from mqbench.report.picture import Picture
from mqbench.report.pictures import write
from processes import environment
from small_store import fill, made, table


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records() -> list[Record]:
    calibrated = [
        made(dataset="digits", algorithm="lsq", weight_calibration=w, quantizer_weight_decay=d)
        for w in ("norm", "mse")
        for d in (0.0, 1e-4)
    ]
    return [*table(), *calibrated]


def test_report(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place / "runs", table())
    assert cli.main(["report"]) == 0
    assert capsys.readouterr().out.startswith("site/index.html: 32 pages, ")
    assert cli.main(["report", "runs", "-o", "site", "--where", "backend == 'tvm'", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["site"], said["records"], said["pages"]) == ("site", 7, 18)


def test_refusals(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place / "runs", [made()])
    (place / "empty").mkdir()
    (place / "file").write_text("no store")
    for command, sentence in {
        "report none": "there are no records at none; mqbench run makes them",
        "report empty": "there are no records in empty; mqbench run makes them",
        "report file": "cannot read file: it is not a folder",
        "report runs --where bits==9": "there are no records in runs for which 'bits==9' holds",
        "report runs --where nonsense==1": "unknown column 'nonsense'",
        "report runs -o empty/../runs": "is no site of mqbench report",
        "report runs -o .": "give a folder of its own, such as site",
        "report runs --every 0 --watch": "--every takes a number of seconds above 0, got 0",
        "report runs --artifacts empty": "there is no certificate.json in empty",
        "draw": None,
        "draw curve": "unknown figure or algorithm 'curve' (did you mean 'curves'?)",
        "draw curves": "there is nothing to draw for curves. It takes two runs that differ in one thing",
        "draw curves --store none": "there are no records at none",
    }.items():
        if sentence is not None:
            assert cli.main(command.split()) == 2, command
            said = capsys.readouterr().err
            assert sentence in said
            assert said.count("\n") == 1
    assert sorted(p.name for p in place.iterdir()) == ["empty", "file", "runs"]


@pytest.mark.parametrize("figure", ["curves", "activations", "ranges", "initialisation", "spread", "means"])
def test_draw(figure: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(place / "runs", records())
    assert cli.main(["draw", figure, "-o", "pictures", "--json"]) == 0
    paths = json.loads(capsys.readouterr().out)
    assert len(paths) == len(set(paths)) >= 1
    for path in paths:
        assert Path(path).name.startswith(f"{figure}-")
        text = (place / path).read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "prefers-color-scheme:dark" in text


def test_pictures_of_one_name_are_told_apart(tmp_path: Path) -> None:
    given = [
        Picture(title=title, svg=f'<svg a="{i}">x</svg>')
        for i, title in enumerate(("A b", "a-B", "long " * 99))
    ]
    paths = list(write(given, tmp_path / "new", "curves"))
    assert [path.name for path in paths[:2]] == ["curves-a-b.svg", "curves-a-b-1.svg"]
    assert all(len(path.name) < 200 for path in paths)
    assert sorted(tmp_path.rglob("*.svg")) == sorted(paths)


def test_watch_ends_cleanly(place: Path) -> None:
    store = fill(place / "runs", [made()])
    command = [sys.executable, "-m", "mqbench", "report", "runs", "--watch", "--every", "0.1"]
    process = subprocess.Popen(
        command, cwd=place, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert " from 1 record in " in process.stdout.readline()
        store.put(made(seed=1))
        assert " from 2 records in " in process.stdout.readline()
        assert (place / "site" / "runs" / f"{made(seed=1).setting.key}.html").exists()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    finally:
        process.kill()
    assert process.returncode == 0
    assert sorted(p.name for p in place.iterdir()) == ["runs", "site"]
