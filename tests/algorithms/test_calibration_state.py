"""What calibration leaves behind: a choice that lasts, nothing after a failure, thresholds that can move."""

from typing import Any

import pytest
import torch

import mqbench
from mqbench.errors import CalibrationError, RequestError
from mqbench.scheme import QuantScheme


def activation(name: str, **scheme: Any) -> Any:
    return mqbench.fake_quantizer(name, "activation", scheme=QuantScheme(**scheme))


@pytest.mark.parametrize("name", ["minmax", "dsq"])
def test_a_chosen_range_moves_by_a_tenth(name: str) -> None:
    fq = activation(name, bits=8)
    fq.begin_calibration("mse")
    fq.observe(torch.randn(100, 10))
    fq.end_calibration()
    before = fq.range_max.clone()
    batch = torch.randn(100, 10) * 100
    _, hi = fq.batch_range(batch)
    fq.train()
    fq(batch)
    torch.testing.assert_close(fq.range_max, 0.9 * before + 0.1 * hi)


@pytest.mark.parametrize("name", [n for n in mqbench.algorithms if n != "tqt"])
def test_a_cancelled_calibration_changes_nothing(name: str) -> None:
    fq = activation(name, bits=4).initialize(torch.randn(16, 16))
    before = {k: v.clone() for k, v in fq.state_dict().items()}
    buffer = {k: id(v) for k, v in fq.named_buffers()}
    fq.begin_calibration()
    fq.observe(torch.randn(9, 9) * 1e3)
    with pytest.raises(CalibrationError, match="finite"):
        fq.observe(torch.full((9, 9), torch.nan))
    fq.cancel_calibration()
    assert all(torch.equal(v, before[k]) for k, v in fq.state_dict().items())
    fq.train()
    fq(torch.randn(16, 16))
    assert buffer == {k: id(v) for k, v in fq.named_buffers()}, "DDP has collected the buffers"


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_pact_thresholds_at_zero_get_a_gradient(name: str) -> None:
    fq = activation("pact", bits=4, symmetric=False).initialize(torch.randn(100))
    getattr(fq, name).data.zero_()
    fq(torch.randn(1000)).sum().backward()
    assert getattr(fq, name).grad != 0


def test_pact_power_of_two_at_zero_is_finite() -> None:
    fq = activation("pact", bits=4, power_of_two=True).initialize(torch.randn(100))
    fq.alpha.data.zero_()
    y = fq(torch.randn(100))
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(fq.alpha.grad)


def test_lsq_plus_weights_keep_the_zero_point_of_their_range() -> None:
    scheme = QuantScheme(bits=4, symmetric=False)
    w = torch.randn(8, 64) + 1
    plus = mqbench.fake_quantizer("lsq_plus", "weight", scheme=scheme).initialize(w)
    plain = mqbench.fake_quantizer("lsq", "weight", scheme=scheme).initialize(w.abs())
    assert plus.zero_point != 0
    assert plain.zero_point == 0


def test_another_granularity_does_not_load() -> None:
    per_channel = mqbench.fake_quantizer("lsq", "weight", scheme=QuantScheme(per_channel=True))
    per_tensor = mqbench.fake_quantizer("lsq", "weight", scheme=QuantScheme())
    per_channel.initialize(torch.randn(8, 5))
    with pytest.raises(RuntimeError, match="size mismatch"):
        per_tensor.load_state_dict(per_channel.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        per_channel.load_state_dict(per_tensor.initialize(torch.randn(8, 5)).state_dict())


@pytest.mark.parametrize("name", ["lsq", "pact", "dsq", "minmax", "ptq"])
def test_nan_becomes_the_zero_point(name: str) -> None:
    fq = activation(name, bits=4, symmetric=False).initialize(torch.randn(4, 64) + 1)
    q = fq.quantize(torch.tensor([torch.nan, torch.inf, -torch.inf]))
    assert q[0] == fq.zero_point
    assert q[1] == fq.integer_range()[1]
    assert q[2] == fq.integer_range()[0]


def test_integers_are_refused() -> None:
    fq = activation("lsq").initialize(torch.randn(10))
    with pytest.raises(RequestError, match=r"floating-point tensors, got torch\.int64"):
        fq(torch.arange(3))


def test_lqnet_starts_from_all_it_has_seen() -> None:
    parts = [torch.randn(4, 100), torch.randn(4, 100) * 9]
    streamed = mqbench.fake_quantizer("lqnet", "weight", scheme=QuantScheme())
    streamed.begin_calibration()
    for part in parts:
        streamed.observe(part)
    streamed.end_calibration()
    whole = mqbench.fake_quantizer("lqnet", "weight", scheme=QuantScheme()).initialize(torch.cat(parts))
    torch.testing.assert_close(streamed.basis, whole.basis)
