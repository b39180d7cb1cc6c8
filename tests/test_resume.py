"""A run that is killed, wherever it is, ends in the record of one that was never killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

import mqbench
from killing import PLACES
from mqbench.compute import Compute
from processes import environment, until

ENDS = {**{place[0]: str(-signal.SIGKILL) for place in PLACES}, "undisturbed": "0"}

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
    for setting in (SETTING.float_setting, SETTING):
        mqbench.run(setting, store=whole, compute=Compute(accelerator="cpu"))
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    for name in ("record.json", "curve.parquet", "quantizers.parquet"):
        wanted = mqbench.Store(whole).file(SETTING, name).read_bytes()
        assert store.file(SETTING, name).read_bytes() == wanted, name
    assert not list((cut / ".checkpoints").glob("*"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_run_that_is_killed_wherever_it_is_ends_in_the_same_record(tmp_path: Path) -> None:
    setting = SETTING.model_copy(update={"epochs": 2})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    compute = Compute(accelerator="cpu", monitor_steps=7)
    mqbench.run(setting.float_setting, store=whole, compute=compute)
    shutil.copytree(whole, cut)
    mqbench.run(setting, store=whole, compute=compute)
    options = f"{RUN} --epochs 2 --monitor-steps 7 --store".replace("--epochs 4 ", "").split()
    said = subprocess.run(
        [sys.executable, "-m", "killing", *options, str(cut)],
        env=environment(), capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    ends = dict(line.rsplit(": ", 1) for line in said.stdout.splitlines() if line.rpartition(": ")[0] in ENDS)
    assert ends == ENDS, said.stderr
    found = mqbench.Store(cut).attachments(setting)
    assert found == mqbench.Store(whole).attachments(setting)
    assert "curve.parquet" in found
    record = [mqbench.Store(place).file(setting, "record.json").read_bytes() for place in (whole, cut)]
    assert record[0] == record[1]
    assert not list((cut / ".checkpoints").glob("*"))
    assert not list(cut.glob(".new.*"))


TOGETHER = (
    "run --architecture digits_resnet --dataset digits --algorithm lsq --backend tensorrt --float-epochs 1"
    " --batch-size 16 --global-batch 32 --epochs 2 --jobs 1 --accelerator cpu --devices 2 --checkpoint-minutes 1e-9"
)


def together(store: Path, *launcher: str) -> "subprocess.Popen[str]":
    """The run in two processes, started by a launcher or by the command itself."""
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "mqbench", *TOGETHER.split(), "--store", str(store)],
        env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="no gloo here")
@pytest.mark.skipif(not children(os.getppid()), reason="the system does not list the children of a process")
def test_two_processes_that_are_killed_end_in_the_same_record(tmp_path: Path) -> None:
    setting = SETTING.model_copy(update={"epochs": 2, "batch_size": 16, "global_batch": 32})
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    mqbench.run(setting.float_setting, store=whole)
    shutil.copytree(whole, cut)
    killed = together(cut, *torchrun)
    until((cut / ".checkpoints" / f"{setting.key}.pt").exists, seconds=120)
    for worker in (killed.pid, *children(killed.pid)):  # torchrun gives its workers sessions of their own
        os.kill(worker, signal.SIGKILL)
    killed.communicate()
    assert setting not in mqbench.Store(cut)
    for process in (together(cut), together(whole, *torchrun)):
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    for name in ("record.json", "curve.parquet", "quantizers.parquet"):
        wanted = mqbench.Store(whole).file(setting, name).read_bytes()
        assert mqbench.Store(cut).file(setting, name).read_bytes() == wanted, name
