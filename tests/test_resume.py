"""A run that is killed in the middle of an epoch ends in the record of one that was never killed."""

import signal
import subprocess
import sys
from pathlib import Path

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
