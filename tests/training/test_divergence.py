"""Kinds of NC: each is made to happen, and named."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.data._base import TensorSplit
from mqbench.preparation import quantizers
from mqbench.record import CurvePoint
from mqbench.training import _divergence as divergence
from mqbench.training import train
from networks import Basic, Net, images, trained
from training_case import RECIPE, splits


@pytest.fixture(scope="module")
def prepared() -> Any:
    torch.manual_seed(0)
    q = mqbench.prepare(trained(Net(Basic())), images(), backend="tensorrt", algorithm="lsq")
    mqbench.calibrate(q, [images(16)])
    return q


def test_exploding_scale(prepared: Any) -> None:
    q = copy.deepcopy(prepared)
    fq: Any = next(fq for _, fq in quantizers(q) if fq.role == "activation")
    fq.step_size.data.fill_(1e20)
    result = train(q, splits(), RECIPE, seed=0)
    assert result.kind == "exploding scale"


def test_fold_blow_up(prepared: Any) -> None:
    q = copy.deepcopy(prepared)
    for name, buffer in q.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1e30)  # the folded weights vanish
            break
    q.fc.bias.data.fill_(-1e4)
    q.fc.bias.data[1:] = 1e4
    result = train(q, splits(), RECIPE, seed=0)
    assert result.kind == "fold blow-up"


def test_loss_blow_up(prepared: Any) -> None:
    q = copy.deepcopy(prepared)
    q.fc.bias.data[2:] = 1e6
    result = train(q, splits(), RECIPE, seed=0)
    assert (result.kind, result.curve) == ("loss blow-up", ())


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x), 10)


def test_dead_activations_end_early() -> None:
    x, y = images(80), torch.arange(80) % 10
    ten = replace(splits(), train=TensorSplit(x, y), test=TensorSplit(x, y), classes=10)
    result = train(Constant(), ten, replace(RECIPE, epochs=40, learning_rate=1e-9), seed=0)
    assert result.kind == "dead activations"
    assert len(result.curve) == 4  # a tenth of the training is let pass


def test_chance_accuracy_is_told_from_dead() -> None:
    assert divergence.kind_at_chance(nn.Flatten(), torch.zeros(4, 3)) == "dead activations"
    assert divergence.kind_at_chance(nn.Flatten(), torch.eye(4)) == "chance accuracy"


@pytest.mark.parametrize(("classes", "chance"), [(2, 62.5), (10, 14.5), (1000, 0.14995)])
def test_what_counts_as_chance(classes: int, chance: float) -> None:
    assert divergence.is_at_chance(chance - 1e-3, classes)
    assert not divergence.is_at_chance(chance + 1e-3, classes)


def test_a_slow_start_is_not_dead() -> None:
    def curve(*accuracies: float) -> list[CurvePoint]:
        return [
            CurvePoint(epoch=i, learning_rate=0.1, train_loss=1.0, train_accuracy=a, test_accuracy=a)
            for i, a in enumerate(accuracies)
        ]

    assert divergence.is_dead(curve(10, 10, 10), 20, 10)
    assert not divergence.is_dead(curve(10, 10), 20, 10)
    assert not divergence.is_dead(curve(10, 10, 12), 20, 10)
    assert not divergence.is_dead(curve(10, 10, 10), 100, 10)
