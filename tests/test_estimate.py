"""What a study will cost: counted from the recipe, timed on random images, nothing read or run."""

import json
from pathlib import Path
from typing import Any

import pytest

from mqbench import cli
from mqbench.errors import RequestError
from mqbench.estimate import estimate
from mqbench.record import Setting

DIGITS: dict[str, Any] = {"architecture": "digits_resnet", "dataset": "digits"}


def test_steps_and_seconds_follow_the_recipe() -> None:
    settings = [
        Setting(**DIGITS, epochs=2),
        Setting(**DIGITS, algorithm="lsq", backend="tvm", epochs=1, seed=0),
        Setting(**DIGITS, algorithm="lsq", backend="tvm", epochs=10, seed=1),
    ]
    asked: list[Setting] = []
    network, short, long = estimate(settings, progress=asked.append)
    assert asked == settings[:2]  # what computes the same is measured once
    assert (network.steps, short.steps, long.steps) == (2 * 20, 20, 200)
    assert long.train_seconds == pytest.approx(10 * short.train_seconds)
    assert short.train_seconds == pytest.approx(20 * 64 / short.train_images_per_second)
    assert short.seconds == short.train_seconds + short.test_seconds > short.train_seconds > 0


def test_a_study_of_imagenet_needs_no_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MQBENCH_DATA", raising=False)
    (cost,) = estimate(
        [Setting(architecture="timm/test_resnet", dataset="imagenet", algorithm="lsq")], data="/nowhere"
    )
    assert cost.global_batch == 512
    assert cost.steps == 100 * (1_281_167 // 512)


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        estimate([Setting(architecture="digits_resnet", dataset="folder:nothing")], data=str(tmp_path))


def test_dry_run_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(["run", "--algorithm", "lsq", "--backend", "tvm,fbgemm", "--epochs", "1", "--dry-run"]) == 0
    )
    out = capsys.readouterr().out
    assert "3 runs, 3 to make" in out
    assert "one after the other" in out
    assert (
        cli.main(["run", "--algorithm", "lsq", "--backend", "tvm", "--epochs", "1", "--dry-run", "--json"])
        == 0
    )
    planned = json.loads(capsys.readouterr().out)
    assert (planned["runs"], planned["missing"]) == (2, 2)
    assert planned["seconds"] == pytest.approx(sum(cost["seconds"] for cost in planned["costs"]))
    assert not list(tmp_path.iterdir())
