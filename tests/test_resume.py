"""A run that is killed in the middle of an epoch ends in the record of one that was never killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

import mqbench
from processes import environment, until

SETTING = mqbench.Setting(
    architecture="digits_resnet",
    dataset="digits",
    algorithm="lsq",
    backend="tensorrt",
    epochs=4,
    float_epochs=1,
)
RUN = (
    "run --architecture digits_resnet --dataset digits --algorithm lsq --backend tensorrt --epochs 4 --float-epochs 1"
    " --jobs 1 --accelerator cpu --checkpoint-minutes 1e-9"
)


def start(store: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mqbench", *RUN.split(), "--store", str(store)]
    return subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def test_a_killed_run_ends_in_the_same_record(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = start(whole)
    killed = start(cut)
    until((cut / ".checkpoints" / f"{SETTING.key}.pt").exists)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    if killed.stderr is not None:
        killed.stderr.close()
    store = mqbench.Store(cut)
    assert SETTING not in store
    assert SETTING.float_setting in store
    again = start(cut)
    for process in (undisturbed, again):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    for name in ("record.json", "curve.parquet", "quantizers.parquet"):
        wanted = mqbench.Store(whole).file(SETTING, name).read_bytes()
        assert store.file(SETTING, name).read_bytes() == wanted, name
    assert not list((cut / ".checkpoints").glob("*"))


TOGETHER = (
    "run --architecture digits_resnet --dataset digits --algorithm lsq --backend tensorrt --float-epochs 1"
    " --batch-size 16 --global-batch 32 --epochs 2 --jobs 1 --accelerator cpu --devices 2 --checkpoint-minutes 1e-9"
)


def together(store: Path, *launcher: str) -> "subprocess.Popen[str]":
    """The run in two processes, started by a launcher or by the command itself."""
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "mqbench", *TOGETHER.split(), "--store", str(store)],
        env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="no gloo here")
def test_two_processes_that_are_killed_end_in_the_same_record(tmp_path: Path) -> None:
    setting = SETTING.model_copy(update={"epochs": 2, "batch_size": 16, "global_batch": 32})
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    mqbench.run(setting.float_setting, store=whole)
    shutil.copytree(whole, cut)
    killed = together(cut, *torchrun)
    until((cut / ".checkpoints" / f"{setting.key}.pt").exists, seconds=120)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert setting not in mqbench.Store(cut)
    for process in (together(cut), together(whole, *torchrun)):
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    for name in ("record.json", "curve.parquet", "quantizers.parquet"):
        wanted = mqbench.Store(whole).file(setting, name).read_bytes()
        assert mqbench.Store(cut).file(setting, name).read_bytes() == wanted, name
