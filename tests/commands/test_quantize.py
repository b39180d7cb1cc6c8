"""`mqbench quantize` and `mqbench verify`, with everything real: training, engine, files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from killing import QUANTIZING
from mqbench import cli, runner
from mqbench.deploy import requirement
from mqbench.deploy.artifact import verify_again
from mqbench.errors import RequestError
from mqbench.record import Setting
from processes import environment

pytest.importorskip("onnxruntime")
Run = Callable[[str], tuple[int, str, str]]
QUANTIZE = "quantize digits_resnet --dataset digits --backend fbgemm --float-epochs 1 --images 64"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(command: str) -> tuple[int, str, str]:
        code = cli.main(command.split())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_from_a_network_to_a_certificate_and_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(f"{QUANTIZE} --export out")
    assert (code, err) == (0, "")
    assert "bar passed: exact 1" in out
    assert "None of the computation fell back to float" in out
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["images"] == 64
    assert certificate["accuracy"]["engine"] == certificate["accuracy"]["integer"] > 50
    assert abs(certificate["accuracy"]["simulated"] - certificate["accuracy"]["float"]) < 10
    code, out, _ = run("verify out")
    assert code == 0
    assert "files unchanged; 8 images on onnxruntime" in out
    assert "100.0000 % of the integers equal" in out
    with monkeypatch.context() as patch:
        patch.setitem(requirement._NAMED, "none", requirement.Requirement(steps=-1))  # what nothing can pass
        code, out, _ = run("verify out --json --require none")
    assert code == 1
    assert json.loads(out)["missed"][0].startswith("x.quantize (quantize): off by 0 steps")
    (tmp_path / "out" / "model.onnx").write_bytes(b"")
    code, _, err = run("verify out")
    assert code == 2
    assert "model.onnx is not the file that was certified" in err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_killed_wherever_it_is_it_leaves_nothing_that_opens_and_can_be_started_again(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "killing", *f"{QUANTIZE.replace('64', '16')} --export out --quiet".split()],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    killed = {name for name, *_ in QUANTIZING}
    ends = [line.rpartition(": ")[::2] for line in said.stdout.splitlines()]
    assert {name: int(code) for name, code in ends if name in killed} == dict.fromkeys(killed, -9), (
        said.stderr
    )
    assert ends[-1] == ("undisturbed", "0"), said.stderr
    verify_again(tmp_path / "out")
    left = list(tmp_path.glob(".out.*"))
    assert left
    for folder in left:
        with pytest.raises(RequestError, match=r"cannot (be )?read"):
            verify_again(folder)


NETWORK = """
from torch import nn

def make(num_classes, in_chans):
    return nn.Sequential(
        nn.Conv2d(in_chans, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, groups=16),
        nn.BatchNorm2d(16), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )
"""


def test_a_network_of_the_user_is_trained_as_the_benchmark_trains_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    options = "--dataset digits --backend fbgemm --bits 4 --epochs 2 --float-epochs 4 --quiet"
    code, _, err = run(f"quantize my_network:make {options.replace('epochs 4', 'epochs 1')} --export out")
    assert code == 1
    assert "the float network did not train (chance accuracy at the end)" in err
    code, out, _ = run(f"quantize my_network:make {options} --export out --require drop=-100 --json")
    assert code == 1
    certificate = json.loads(out)
    assert certificate["network"]["algorithm"] == "lsq"
    assert certificate["network"]["weight_bits"] == 4
    (missed,) = certificate["missed"]
    assert "points of accuracy, -100 allowed" in missed
    assert (tmp_path / "out" / "certificate.md").read_text().count("**Missed.**") == 1
    setting = Setting(
        architecture="my_network:make", dataset="digits", algorithm="lsq", backend="fbgemm", bits=(4, 4), epochs=2,
        float_epochs=4,
    )  # fmt: skip
    assert certificate["network"]["setting"] == setting.key
    record = runner.run(setting)
    assert record.outcome == "ok"
    assert record.accuracy == certificate["accuracy"]["simulated"]
    assert record.float_accuracy == certificate["accuracy"]["float"]
    assert not list((tmp_path / "runs" / ".checkpoints").glob("*"))


def test_what_the_engine_refuses_is_refused_before_training(run: Run, tmp_path: Path) -> None:
    code, _, err = run(f"{QUANTIZE} --export out --graph 1 --runtime torch_fbgemm --epochs 1")
    assert code == 2
    assert "leaves the output of" in err
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").touch()
    code, _, err = run(f"{QUANTIZE} --export file/out")
    assert code == 2
    assert "cannot write file/out: Not a directory" in err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--backend fbgem --export out", "unknown backend 'fbgem'"),
        ("--backend fbgemm --bits 16 --export out", "compute with up to 8 bits, got 16"),
        ("--backend academic --algorithm apot --bits 4 --export out", "no integer form"),
        ("--backend fbgemm --algorithm float --export out", "float"),
        ("--backend fbgemm --require perfect --export out", "require must be one of"),
        ("--backend fbgemm --runtime onnx --export out", "unknown runtime 'onnx'"),
        ("--backend fbgemm --export full", "exists already and is not empty"),
        ("--backend fbgemm --export out --skip conv9", "cannot skip 'conv9'"),
    ],
)
def test_requests_that_cannot_work(extra: str, message: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    code, _, err = run(f"quantize digits_resnet --dataset digits --float-epochs 1 {extra}")
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_images_are_needed(run: Run) -> None:
    code, _, err = run("quantize digits_resnet --backend fbgemm --export out")
    assert code == 2
    assert "give --dataset NAME, or --data FOLDER" in err
    code, _, err = run("verify nowhere")
    assert code == 2
    assert "give a folder from mqbench quantize" in err
