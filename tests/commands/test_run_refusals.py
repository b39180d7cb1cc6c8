"""What cannot be computed is refused in a sentence before anything is, whatever asks for it."""

from pathlib import Path

import pytest
import torch

from mqbench import cli

DIGITS = "run --architecture digits_resnet --dataset digits --accelerator cpu --jobs 1 --algorithm"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("float --devices 3", "a global batch of 64 images cannot be made of 3 processes with batch_size 64"),
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
