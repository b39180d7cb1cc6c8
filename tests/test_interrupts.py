"""Ctrl-C and SIGTERM at every stage of what takes long: one line, the exit code of the signal, nothing lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mqbench.deploy.artifact import open_again
from mqbench.store import Store
from processes import environment
from small_store import fill, made, measure, table

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

DIGITS = "--dataset digits --backend fbgemm --algorithm lsq --epochs 1 --float-epochs 1"
COMMANDS = {
    "run": f"run --architecture digits_resnet {DIGITS} --jobs 1 --accelerator cpu --checkpoint-minutes 1e-9",
    "quantize": f"quantize digits_resnet {DIGITS} --images 32 --export out",
    "latency": "latency digits_resnet --image-size 8 --runs 1 --batch-size 1 --runtime onnxruntime",
    "report": "report runs -o site",
    "merge": "merge runs others -o both",
}
TRAINING = ["mqbench.runner", "mqbench.data.digits"]
IMPORTED = {
    "run": TRAINING,
    "quantize": TRAINING,
    "latency": ["torch"],
    "report": ["mqbench.report.site"],
    "merge": [],
}
# what is being done, the function at whose call of that number it happens, and whether its work is done then
PLACES = {
    "run": [
        ("training the float network", "mqbench.training._loop:_Loop._backward", 3, True),
        ("calibrating", "mqbench.calibration:_pause", 1, False),
        ("training", "mqbench.training._loop:_Loop._backward", 15, True),
        ("writing a checkpoint", "torch:save", 2, True),
        ("writing the record", "mqbench.record_file:sync", 1, False),
        ("the record is in its place", "mqbench.store:_moved", 1, True),
    ],
    "quantize": [
        ("trying it out", "mqbench.deployment:rehearse", 1, True),
        ("training the float network", "mqbench.training._loop:_Loop._backward", 3, True),
        ("training", "mqbench.training._loop:_Loop._backward", 15, True),
        ("writing the file", "mqbench.deploy.export:write_sidecar", 2, False),
        ("verifying", "mqbench.deploy.artifact:verify", 1, True),
        ("the certificate is written", "mqbench.deploy.certificate:write", 1, True),
        ("the artifact is in its place", "os:replace", 8, True),
    ],
    "latency": [
        ("timing", "mqbench.deploy.latency:compare", 1, True),
        ("the first of two records", "mqbench.store:Store.write_document", 1, True),
    ],
    "report": [
        ("reading", "mqbench.store:Store.get", 3, True),
        ("drawing", "mqbench.report.site:drawn", 1, False),
        ("the old site is away", "pathlib:Path.rename", 1, True),
        ("the new site is there", "pathlib:Path.rename", 2, True),
    ],
    "merge": [
        ("reading", "mqbench.store:Store.get", 3, True),
        ("the third record", "mqbench.store:Store.put", 3, True),
        ("in the middle of a record", "mqbench.record_file:sync", 5, False),
    ],
}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


LONG = ("quantize", "latency")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in COMMANDS]
)
def test_one_line_and_nothing_lost(name: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    runs = fill(place / "runs", table())
    measure(runs)
    fill(place / "others", [made(1.0, dataset="cifar10")])
    (place / "site").mkdir()
    (place / "site" / ".report.json").write_text(json.dumps({"runs": {}}))
    before = content(place)
    signals = (signal.SIGINT, signal.SIGTERM)
    places = [(*stage, signals[number % 2]) for number, stage in enumerate(PLACES[name])]
    done = subprocess.run(
        [sys.executable, "-m", "interrupting", str(place), COMMANDS[name], *IMPORTED[name]],
        input=json.dumps(places), env=environment(), capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    for number, ((stage, *_, sent), (code, said)) in enumerate(
        zip(places, json.loads(done.stdout), strict=True)
    ):
        here = tmp_path / str(number)
        lines = [line for line in said.splitlines() if not line.startswith("[")]
        assert (code, len(lines)) == (128 + sent, 1), (stage, said)
        assert lines[0].startswith("mqbench: interrupted; "), stage
        now = content(here)
        kept = {name for name in before if not name.startswith("site/")}
        assert all(now.get(name) == before[name] for name in kept), stage
        assert (here / "site").is_dir(), stage
        assert not list(here.glob(".*")), stage
        for store in (here / "runs", here / "both"):
            assert not list(store.glob(".new*")), stage
            assert not list(store.glob(".old*")), stage
            if store.exists():
                list(Store(store))  # whole, each of them
        if (here / "out").exists():
            open_again(here / "out")
