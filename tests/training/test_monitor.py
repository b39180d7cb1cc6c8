"""Diagnostics of appendix B: what is noted, when, and that noting it changes nothing."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
from safetensors.torch import load

import mqbench
from mqbench.compute import Compute
from mqbench.errors import RequestError
from mqbench.preparation import quantizers
from mqbench.training import Board, train
from mqbench.training._monitor import histograms
from networks import Basic, Net, images, trained
from training_case import RECIPE, splits


def network(algorithm: str = "lsq", backend: str = "snpe") -> Any:
    torch.manual_seed(0)
    q = mqbench.prepare(trained(Net(Basic())), images(), backend=backend, algorithm=algorithm)
    mqbench.calibrate(q, [images(16)])
    return q


def frames(files: dict[str, bytes]) -> tuple[polars.DataFrame, polars.DataFrame]:
    curve, ranges = (polars.read_parquet(io.BytesIO(files[f"{n}.parquet"])) for n in ("curve", "quantizers"))
    return curve, ranges


def test_curve_and_ranges_over_time() -> None:
    model = network()
    result = train(
        model, splits(), RECIPE, seed=0, compute=Compute(accelerator="cpu", monitor_steps=3)
    )  # three epochs of four steps: a look at 3, 4, 6, 8, 9, 12
    curve, ranges = frames(result.files)
    assert curve["step"].to_list() == [3, 4, 6, 8, 9, 12]
    assert curve["epoch"].to_list() == [1, 1, 2, 2, 3, 3]
    assert curve["test_accuracy"][-1] == result.curve[-1].test_accuracy
    raw, drawn = curve["test_accuracy"], curve["test_accuracy_ema"]
    assert drawn[0] == raw[0]
    for i in range(1, len(raw)):
        assert drawn[i] == pytest.approx(0.3 * drawn[i - 1] + 0.7 * raw[i])
    named = dict(quantizers(model))
    assert ranges.height == len(named) * len(curve)
    last = ranges.filter(polars.col("step") == 12)
    for row in last.iter_rows(named=True):
        fq = named[row["quantizer"]]
        assert row["scale"] == pytest.approx(float(fq.scale.median()))
        assert row["clip_max"] == pytest.approx(
            float(((fq.scheme.quant_max - fq.zero_point) * fq.scale).max()), rel=1e-6
        )
        assert (row["role"], row["bits"]) == (fq.role, fq.scheme.bits)


def test_looking_changes_nothing() -> None:
    states = []
    for every in (1, 1000):
        model = network()
        train(model, splits(), RECIPE, seed=0, compute=Compute(accelerator="cpu", monitor_steps=every))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_histograms_count_every_value() -> None:
    model = network("pact", "academic")
    x = images(8)
    seen: dict[str, int] = {}
    for name, fq in quantizers(model):
        fq.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].numel()}))
    found = histograms(model.train(), x)
    assert model.training
    for name, fq in quantizers(model):
        assert int(found[f"{name}.counts"].sum()) == seen[name]
        lo, hi = found[f"{name}.range"].tolist()
        assert lo < hi
        assert len(found[f"{name}.clip"]) == 2
        assert fq.training


@pytest.mark.parametrize("algorithm", ["qil", "apot", "lqnet"])
def test_levels_without_a_scale(algorithm: str) -> None:
    model = network(algorithm, "academic")
    result = train(model, splits(), replace(RECIPE, epochs=1), seed=0)
    _, ranges = frames(result.files)
    assert ranges["clip_max"].is_finite().all()
    assert set(load(result.files["histograms.safetensors"])) >= {"fc.weight_quantizer.counts"}


def test_tensorboard_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(network(), splits(), replace(RECIPE, epochs=1), seed=0, board=Board(tmp_path / "run"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert {"test_accuracy", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("test_accuracy")] == [4]


def test_tensorboard_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(RequestError, match=r"pip install 'mqbench\[tensorboard\]'"):
        Board(tmp_path)
