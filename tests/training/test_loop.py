"""The training pipeline: schedule, weight decay, convergence verdicts, reproducibility."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.data._base import TensorSplit
from mqbench.preparation import quantizers
from mqbench.training import calibration_batches, evaluate, parameter_groups, rate_factor, train
from networks import Basic, Net, images, trained
from training_case import RECIPE, splits


def network() -> nn.Module:
    torch.manual_seed(0)
    return trained(Net(Basic()))


def test_rate_rises_linearly_and_falls_by_a_cosine_to_zero() -> None:
    rates = [rate_factor(step, 50, 10) for step in range(51)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert rates[50] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_zero_points_do_not_decay_and_scales_do() -> None:
    q = mqbench.prepare(network(), images(), backend="acl", algorithm="lsq")
    weights, learned, free = parameter_groups(q, RECIPE)
    names = {p: n for n, p in q.named_parameters()}
    assert {names[p].rsplit(".")[-1] for p in free["params"]} == {"offset"}  # type: ignore[attr-defined]
    assert free["weight_decay"] == 0.0
    assert {names[p].rsplit(".")[-1] for p in learned["params"]} == {"step_size"}  # type: ignore[attr-defined]
    assert {names[p].rsplit(".")[-1] for p in weights["params"]} == {"weight", "bias"}  # type: ignore[attr-defined]
    assert weights["weight_decay"] == learned["weight_decay"] == RECIPE.weight_decay
    assert (
        next(g for g in parameter_groups(q, RECIPE, 0.5) if g["weight_decay"] == 0.5)["params"]
        == learned["params"]
    )
    weights, learned, free = parameter_groups(q, replace(RECIPE, decay_batch_norm=False))
    norms = {p for m in q.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert norms <= set(free["params"])  # type: ignore[call-overload]
    every = [*weights["params"], *learned["params"], *free["params"]]  # type: ignore[misc]
    assert len(every) == len(set(every)) == len(list(q.parameters()))


def test_same_seed_same_bits() -> None:
    results = []
    for seed in (1, 1, 2):
        model = copy.deepcopy(network())
        results.append((train(model, splits(), RECIPE, seed=seed), model.state_dict()))
    (a, sa), (b, sb), (c, _) = results
    assert a == b
    assert all(torch.equal(x, y) for x, y in zip(sa.values(), sb.values(), strict=True))
    assert a.curve != c.curve


def test_it_learns_and_reports_each_epoch() -> None:
    seen: list[tuple[int, int]] = []
    result = train(
        network(), splits(), replace(RECIPE, epochs=12), seed=0, progress=lambda d, t: seen.append((d, t))
    )
    assert seen == [(i, 48) for i in range(1, 49)]
    assert [p.epoch for p in result.curve] == list(range(1, 13))
    assert result.curve[-1].train_loss < result.curve[0].train_loss
    assert result.not_converged is None
    assert math.isclose(result.curve[0].learning_rate, 0.05)  # the last step of a tenth of the training


class Explodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :2] * self.scale * math.inf


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    result = train(Explodes(), splits(), RECIPE, seed=0)
    assert result.not_converged is not None
    assert "epoch 1" in result.not_converged
    assert result.kind == "loss blow-up"
    assert result.curve == ()


def test_chance_is_not_converged() -> None:
    data = replace(splits(), classes=2)
    head = nn.Linear(3 * 144, 2)
    nn.init.zeros_(head.weight)
    blind = nn.Sequential(nn.Flatten(), head)
    result = train(blind, data, replace(RECIPE, learning_rate=1e-12), seed=0)
    assert result.not_converged == "dead activations at the end"


def test_evaluate_restores_the_mode_and_counts() -> None:
    net = network().train()
    x = images(10)
    logits = copy.deepcopy(net).eval()(x)
    labels = logits.argmax(1)
    labels[:3] = (labels[:3] + 1) % 10
    data = replace(splits(), test=TensorSplit(x, labels))
    assert evaluate(net, data) == 70.0
    assert net.training


def test_calibration_images_are_drawn_by_seed() -> None:
    split = splits().train
    a, b, c = (calibration_batches(split, 20, 16, seed) for seed in (0, 0, 1))
    assert [len(y) for _, y in a] == [16, 4]
    assert all(torch.equal(x, y) for (x, _), (y, _) in zip(a, b, strict=True))
    assert not torch.equal(a[0][0], c[0][0])


def test_every_quantizer_parameter_moves() -> None:
    q = mqbench.prepare(network(), images(), backend="acl", algorithm="lsq")
    mqbench.calibrate(q, [images()])
    before = {n: fq.scale.clone() for n, fq in quantizers(q)}
    train(q, splits(), RECIPE, seed=0)
    assert all(not torch.equal(before[n], fq.scale) for n, fq in quantizers(q))
