"""BN folding: what each strategy promises beyond the conformance vectors."""

from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from mqbench import folding
from mqbench.errors import RequestError
from mqbench.folding._base import by_number
from mqbench.folding._statistics import batch_statistics, combine_statistics
from mqbench.preparation import quantizers
from networks import Basic, Inverted, Net, images, trained

STRATEGIES = range(-1, 5)


def ready(number: int, dtype: torch.dtype = torch.float32) -> Any:
    net = trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8)).to(dtype)
    q = mqbench.prepare(net, images().to(dtype), backend="tensorrt", algorithm="lsq", bn_folding=number)
    mqbench.calibrate(q, [images().to(dtype)])
    return q


def test_the_folder_holds_the_six_strategies() -> None:
    assert sorted(folding[name].number for name in folding) == list(STRATEGIES)  # type: ignore[attr-defined, index]
    with pytest.raises(RequestError, match="allowed: -1, 0, 1, 2, 3, 4"):
        by_number(7)


@pytest.mark.parametrize("number", STRATEGIES)
def test_eval_equals_the_converted_network_in_float64(number: int) -> None:
    q = ready(number, torch.float64).train()
    for step in range(3):
        q(images(seed=step).double())
    q.eval()
    x = images(5).double()
    torch.testing.assert_close(mqbench.convert(q)(x), q(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_eval_is_the_same_for_all_strategies(number: int) -> None:
    torch.testing.assert_close(ready(number, torch.float64)(images().double()),
                               ready(0, torch.float64)(images().double()), rtol=1e-9, atol=1e-9)  # fmt: skip


@pytest.mark.parametrize(("number", "moves"), [(-1, True), (1, False), (2, True), (3, True), (4, True)])
def test_running_statistics(number: int, moves: bool) -> None:
    q = ready(number).train()
    before = q.get_buffer("stem.1.running_var").clone()
    q(images())
    assert torch.equal(before, q.get_buffer("stem.1.running_var")) is not moves
    q.eval()
    kept = q.get_buffer("stem.1.running_var").clone()
    q(images())
    assert torch.equal(kept, q.get_buffer("stem.1.running_var"))


@pytest.mark.parametrize("number", [-1, 2, 3, 4])
def test_training_forward_without_quantization_is_batch_norm(number: int) -> None:
    float_net = trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8)).train()
    q = ready(number).train()
    with mqbench.quantization_off(q):
        torch.testing.assert_close(q(images()), float_net(images()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(q.get_buffer("stem.1.running_var"), float_net.get_buffer("stem.1.running_var"))


@pytest.mark.parametrize("number", [2, 3, 4])
def test_gradients_by_finite_differences(number: int) -> None:
    """Unquantized, every strategy is differentiable: through the batch statistics and gamma too."""
    q = ready(number, torch.float64).train()
    for _, fq in quantizers(q):
        fq.enabled = False
    x = images().double()
    state = {k: v.clone() for k, v in q.state_dict().items()}

    def loss() -> torch.Tensor:
        q.load_state_dict(state)
        with torch.no_grad():
            for name, value in chosen.items():
                q.get_parameter(name).copy_(value)
        return q(x).square().sum()

    names = ("stem.0.weight", "stem.1.weight", "blocks.0.b.1.bias")
    chosen = {n: q.get_parameter(n).detach().clone() for n in names}
    loss().backward()
    for name in names:
        gradient = q.get_parameter(name).grad.flatten()[0].item()
        slopes = []
        for step in (1e-6, -1e-6):
            chosen[name].view(-1)[0] += step
            slopes.append(loss().item())
            chosen[name].view(-1)[0] -= step
        # unquantized, the running deviation that strategies 3 and 4 hold constant cancels
        assert gradient == pytest.approx((slopes[0] - slopes[1]) / 2e-6, rel=1e-4, abs=1e-5), name


def test_a_dead_channel_stays_finite() -> None:
    net: Any = trained(Net())
    net.stem[1].weight.data[0] = 0.0
    for number in STRATEGIES:
        q = mqbench.prepare(net, images(), backend="tensorrt", algorithm="lsq", bn_folding=number)
        mqbench.calibrate(q, [images()])
        q.train()
        y = q(images())
        y.sum().backward()
        assert torch.isfinite(y).all()
        assert all(torch.isfinite(p.grad).all() for p in q.parameters() if p.grad is not None), number


def test_combined_statistics_are_those_of_the_union() -> None:
    parts = [torch.randn(n, 3, 4, 4, dtype=torch.float64) for n in (1, 5, 2)]
    means, variances, counts = zip(*(batch_statistics(p) for p in parts), strict=True)
    mean, variance = combine_statistics(means, variances, counts)
    want = batch_statistics(torch.cat(parts))
    torch.testing.assert_close((mean, variance), want[:2])


@pytest.mark.parametrize("number", STRATEGIES)
def test_batch_norm_calibration(number: int) -> None:
    """Statistics become the size-weighted averages over the batches; other parameters stay."""
    q = ready(number)
    batches = [images(6, seed=7), images(2, seed=8)]
    scales = {n: fq.scale.clone() for n, fq in quantizers(q) if fq.role == "activation"}
    mqbench.calibrate_bn(q, batches)
    assert all(torch.equal(scales[n], fq.scale) for n, fq in quantizers(q) if n in scales)
    if number == 0:
        return
    mean, variance = q.get_buffer("stem.1.running_mean"), q.get_buffer("stem.1.running_var")
    x_hat = [dict(quantizers(q))["activation_quantizers.x"](b) for b in batches]
    reference = ready(number)
    outputs = [_before_norm(reference, x) for x in x_hat]
    weights = torch.tensor([6.0, 2.0]) / 8
    want = [sum(w * s(o) for w, o in zip(weights, outputs, strict=True)) for s in (_mean, _variance)]
    torch.testing.assert_close(mean, want[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(variance, want[1], rtol=1e-4, atol=1e-5)


def _before_norm(q: Any, x: torch.Tensor) -> torch.Tensor:
    """Output of the quantized stem before its batch norm, as strategy 4 (or -1) defines it."""
    layer, norm = q.get_submodule("stem.0"), q.get_submodule("stem.1")
    if layer.folding is None:
        return layer(x)
    factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, 1, 1, 1)
    folded = layer.weight_quantizer(layer.weight * factor)
    return nn.functional.conv2d(x, folded, padding=1) / factor.reshape(1, -1, 1, 1)


def _mean(o: torch.Tensor) -> torch.Tensor:
    return o.mean((0, 2, 3)).detach()


def _variance(o: torch.Tensor) -> torch.Tensor:
    return o.var((0, 2, 3), correction=0).detach()
