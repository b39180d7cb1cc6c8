"""What single papers say beyond their gradients: initial values, ties, and what happens off the grid."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import mqbench
from mqbench.quantizer import Role


def build(algorithm: str, role: Role, x: Tensor, **scheme: Any) -> Any:
    return mqbench.fake_quantizer(
        algorithm, role, scheme=mqbench.QuantScheme(**{"bits": 4, **scheme})
    ).initialize(x)


def sample(seed: int = 0, *, nonnegative: bool = False) -> Tensor:
    x = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed))
    return x.abs() if nonnegative else x


@pytest.mark.parametrize(("role", "observer"), [("weight", "meanstd"), ("activation", "mse")])
@pytest.mark.parametrize("symmetric", [True, False])
def test_lsq_plus_starts(role: Role, observer: str, symmetric: bool) -> None:
    x = sample() + 0.5
    fq = build("lsq_plus", role, x, symmetric=symmetric)
    wanted = mqbench.observers[observer](fq.scheme)
    wanted.observe(x)
    assert fq.scale == wanted.qparams().scale
    assert fq.zero_point == wanted.qparams().zero_point
    assert fq.scale != build("lsq", role, x, symmetric=symmetric).scale


def test_tqt_starts_in_the_middle_of_a_chosen_scale() -> None:
    x = sample()
    fq = mqbench.fake_quantizer("tqt", "activation", scheme=mqbench.QuantScheme(bits=4, power_of_two=True))
    fq.begin_calibration("minmax")
    fq(x)
    fq.end_calibration()
    scale = fq.scale.clone()
    assert isinstance(fq.log_threshold, Tensor)
    fq.log_threshold.data += 0.4
    assert fq.scale == scale
    fq.log_threshold.data -= 0.8
    assert fq.scale == scale
    fq.log_threshold.data -= 0.2
    assert fq.scale == scale / 2


def test_qil_starts_with_the_whole_range() -> None:
    x = sample()
    fq = build("qil", "weight", x, per_channel=True)
    assert torch.equal(fq.center, x.abs().amax(1) / 2)
    assert torch.equal(fq.distance, fq.center)
    assert torch.equal(fq(x).abs().amax(1), torch.ones(4))


def test_qil_unsigned_counts_negative_values_as_zero() -> None:
    fq = build("qil", "activation", sample(nonnegative=True), signed=False)
    fq.center.data, fq.distance.data = torch.tensor(0.3), torch.tensor(0.5)  # at 0 the map is above 0
    x = torch.tensor([-0.1, -0.01, 0.0, 0.1], requires_grad=True)
    y = fq(x)
    assert (y[:3] == y[2]).all()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(("role", "alpha"), [("weight", 3.0), ("activation", 6.0)])
def test_apot_starts(role: Role, alpha: float) -> None:
    assert build("apot", role, 100 * sample()).alpha == alpha
    assert build("apot", role, sample(), per_channel=role == "weight").alpha.unique() == alpha


def test_apot_weight_output_is_normalised() -> None:
    x = 0.01 * sample() + 3
    y = build("apot", "weight", x)(x).detach()
    assert y.mean().abs() < 0.1
    assert y.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("sign", [1, -1])
def test_apot_ties_go_to_the_smaller_magnitude(sign: int) -> None:
    fq = build("apot", "activation", sample(), bits=3)  # 0, 1/4, 1/2, 1: mid-points are exact
    fq.alpha.data = torch.tensor(1.0)
    x = sign * torch.tensor([0.125, 0.375, 0.75])
    assert torch.equal(fq(x), sign * torch.tensor([0.0, 0.25, 0.5]))
    assert fq.quantize(x).tolist() == [0, sign, 2 * sign]


def test_lqnet_starts() -> None:
    x = sample()
    powers = 2.0 ** torch.arange(4)
    weight = build("lqnet", "weight", x, per_channel=True)
    torch.testing.assert_close(weight.basis, 0.6745 * x.std(1, correction=0)[:, None] / 8 * powers)
    torch.testing.assert_close(build("lqnet", "activation", 9 * x).basis, 1.349 / 15 * powers)


def test_lqnet_values_on_a_threshold_go_down() -> None:
    fq = build("lqnet", "activation", sample(nonnegative=True), signed=False, bits=2).eval()
    fq.basis = torch.tensor([1.0, 2.0])
    x = torch.tensor([0.5, 1.5, 2.5, 2.5001, 9.0])
    assert torch.equal(fq(x), torch.tensor([0.0, 1.0, 2.0, 3.0, 3.0]))
    assert fq.quantize(x).tolist() == [0, 1, 2, 3, 3]


def test_lqnet_levels_out_of_binary_order() -> None:
    """The code is the binary number even where the basis does not grow."""
    fq = build("lqnet", "activation", sample(nonnegative=True), signed=False, bits=2).eval()
    fq.basis = torch.tensor([2.0, 1.0])
    x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert torch.equal(fq(x), x)
    assert fq.quantize(x).tolist() == [0, 2, 1, 3]


def test_premask_differs_next_to_the_edge_only() -> None:
    gradients = []
    for algorithm in ("lsq", "lsq_premask"):
        fq = build(algorithm, "weight", sample())
        fq.step_size.data = torch.tensor(1.0)
        x = torch.tensor([-8.4, -8.6, -7.9, 6.9, 7.4, 7.6], requires_grad=True)
        fq(x).sum().backward()
        assert x.grad is not None
        gradients.append(x.grad.tolist())
    assert gradients == [[1, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]]


def test_dorefa_scaled_keeps_the_size_of_the_weight() -> None:
    x = 0.01 * sample()
    assert build("dorefa", "weight", x)(x).abs().max() > 0.9
    y = build("dorefa_scaled", "weight", x)(x)
    assert (y - x).abs().max() <= x.abs().max() / 7.5 / 2 * (1 + math.tanh(1e-2))
