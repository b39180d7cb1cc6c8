"""What cannot be computed is refused in a sentence before anything is, whatever asks for it."""

from pathlib import Path

import pytest
import torch

import mqbench
from mqbench import cli
from mqbench.compute import Compute
from mqbench.errors import RequestError
from mqbench.training import Checkpoint

DIGITS = "run --architecture digits_resnet --dataset digits --accelerator cpu --jobs 1 --algorithm"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "float --devices 3 --batch-size 64",
            "made of 3 processes with batch_size 64; choose processes that divide 64",
        ),
        ("float --devices 2 --batch-size 64", "choose a batch_size that divides 32"),
        (
            "lsq --backend tvm --devices 2 --batch-size 32 --global-batch 64",
            "2 processes with batch_size 64; the float digits_resnet is trained with that batch: make it first, with "
            "--algorithm float --devices 1",
        ),
        (
            "lsq --backend tvm --devices 2 --batch-size 16 --global-batch 32 --float-batch 32 --float-epochs 1",
            "--algorithm float --devices 1 --epochs 1 --batch-size 32 --global-batch 32",
        ),
        ("float --batch-size 2000", "at most the 1297 training images, got 2000"),
        ("lsq --backend tvm --batch-size 48 --global-batch 64", "must be a multiple of batch_size, got 64"),
        ("float --precision bf16", 'Invalid value "bf16" for --precision. Choose from'),
        ("float --precision 16-mixed", "16-mixed needs a GPU; on a CPU there is bf16-mixed"),
        ("float --nodes 2 --batch-size 32 --global-batch 64", "torchrun --nnodes 2 --nproc-per-node 1"),
        ("float --weights timm", "timm"),
    ],
)
def test_refused(
    options: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(f"{DIGITS} {options}".split()) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


def test_the_float_network_of_a_single_run_is_looked_at_too(tmp_path: Path) -> None:
    setting = mqbench.Setting(
        architecture="digits_resnet", dataset="digits", algorithm="lsq", backend="tvm", batch_size=32,
        global_batch=64,
    )  # fmt: skip
    with pytest.raises(RequestError, match="the float digits_resnet is trained with that batch"):
        mqbench.run(setting, store=tmp_path / "runs", compute=Compute(accelerator="cpu", devices=2))
    assert not list(tmp_path.iterdir())


def test_the_float_network_of_an_artifact_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = (
        "quantize digits_resnet --dataset digits --backend tensorrt --algorithm lsq --epochs 1 --export out"
    )
    assert cli.main(f"{command} --batch-size 32 --global-batch 64 --accelerator cpu --devices 2".split()) == 2
    assert "the float digits_resnet is trained with that batch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_killed_goes_on_with_as_many_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = mqbench.Store("runs").scratch(mqbench.Setting(architecture="digits_resnet", dataset="digits").key)
    Checkpoint(path).save({"processes": [{}, {}]})
    assert cli.main(f"{DIGITS} float".split()) == 2
    said = capsys.readouterr().err
    assert (
        "holds a run of 2 processes that was interrupted, and it cannot go on with 1; give --devices" in said
    )
    assert len(said.strip().splitlines()) == 1
    assert not list(Path("runs").glob("*/record.json"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(f"{DIGITS} float".replace("cpu", "gpu").split()) == 2
    assert "cannot use 1 x gpu" in capsys.readouterr().err


def test_what_trains_nothing_needs_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = cli.main(
        f"{DIGITS} ptq --bits 8 --epochs 0 --batch-size 2000 --float-epochs 1 --float-seed 1".split()
    )
    assert code == 0, capsys.readouterr().err
