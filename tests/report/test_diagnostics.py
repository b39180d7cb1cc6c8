"""What a run has left is read as it was written."""

from pathlib import Path

import numpy
import pytest
import torch

import mqbench
from mqbench.preparation import quantizers
from mqbench.report import diagnostics
from mqbench.report.diagnostics import Histogram
from mqbench.store import Store
from mqbench.training import _monitor
from small_store import made


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, _monitor.Monitor, torch.fx.GraphModule]:
    """A network that the training's own monitor has looked at twice."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    images = torch.randn(4, 3, 8, 8)
    network = mqbench.prepare(net, images, backend="tensorrt", algorithm="lsq", bits=4)
    mqbench.calibrate(network, [images])
    monitor = _monitor.Monitor(1)
    for step, accuracies in ((1, (50.0, 40.0)), (2, (70.0, 60.0))):
        train, test = accuracies
        monitor.look(
            network, {"train_accuracy": train, "test_accuracy": test},
            step=step, epoch=1, learning_rate=0.1, train_loss=1.0,
        )  # fmt: skip
    store = Store(tmp_path_factory.mktemp("store") / "runs")
    store.put(made(), monitor.files(network, images))
    return store, monitor, network


def test_names_of_files_are_those_of_the_monitor() -> None:
    assert diagnostics.EMA == _monitor.EMA
    for name in ("CURVE", "RANGES", "HISTOGRAMS"):
        assert getattr(diagnostics, name) == getattr(_monitor, name)


def test_curve(watched: tuple[Store, _monitor.Monitor, torch.fx.GraphModule]) -> None:
    curve = diagnostics.curve(watched[0], made())
    assert curve is not None
    assert (curve.unit, curve.x, curve.train, curve.test) == ("optimizer step", [1, 2], [50, 70], [40, 60])
    assert curve.test_ema == pytest.approx([40.0, 0.3 * 40 + 0.7 * 60])
    assert diagnostics.smoothed(curve.train) == pytest.approx(list(curve.train_ema))


def test_ranges(watched: tuple[Store, _monitor.Monitor, torch.fx.GraphModule]) -> None:
    store, monitor, network = watched
    found = diagnostics.ranges(store, made())
    assert [r.name for r in found] == [name for name, _ in quantizers(network)]
    for one in found:
        rows = [row for row in monitor.ranges if row["quantizer"] == one.name]
        assert (one.role, one.bits, one.zero_point) == (rows[-1]["role"], rows[-1]["bits"], 0)
        assert one.low == [row["clip_min"] for row in rows]
        assert one.high == [row["clip_max"] for row in rows]
        assert one.scale == (rows[-1]["scale_min"], rows[-1]["scale"], rows[-1]["scale_max"])


def test_histograms(watched: tuple[Store, _monitor.Monitor, torch.fx.GraphModule]) -> None:
    store, _, network = watched
    found = diagnostics.histograms(store, made())
    assert set(found) == {name for name, _ in quantizers(network)}
    weight = found["0.weight_quantizer"]
    assert weight.counts.sum() == 4 * 3 * 3 * 3
    assert weight.rebinned(64).sum() == weight.counts.sum()
    assert weight.low == pytest.approx(float(network.state_dict()["0.weight"].min()))


@pytest.mark.parametrize(
    "clip", [(-1.0, 1.0), (-9.0, 9.0), (0.0, 0.5), (-2.0, -1.5), (3.0, 5.0), (-4.1, -3.99)]
)
def test_share_that_is_clipped(clip: tuple[float, float]) -> None:
    counts = numpy.random.default_rng(0).integers(0, 50, 256)
    middles = -4 + (numpy.arange(256) + 0.5) * 8 / 256
    outside = counts[(middles < clip[0]) | (middles > clip[1])].sum() / counts.sum()
    assert Histogram(low=-4.0, high=4.0, counts=counts, clip=clip).clipped == pytest.approx(outside)


def test_a_record_alone_has_a_curve_of_epochs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(made(66.0))
    curve = diagnostics.curve(store, made(66.0))
    assert curve is not None
    assert (curve.unit, curve.x, curve.test) == ("epoch", [1], [66.0])
    assert diagnostics.ranges(store, made(66.0)) == []
    assert diagnostics.histograms(store, made(66.0)) == {}
