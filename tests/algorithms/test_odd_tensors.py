"""Tensors that a quantizer was not made for are refused in words, by every algorithm and path; small ones work."""

from typing import Any

import pytest
import torch
from torch import Tensor

import mqbench
from mqbench.errors import CalibrationError, IncompatibleError, RequestError
from mqbench.fused import build

ALGORITHMS = list(mqbench.algorithms)


def weight_quantizer(algorithm: str, *, per_channel: bool = True) -> Any:
    for symmetric in (True, False):
        scheme = mqbench.QuantScheme(per_channel=per_channel, symmetric=symmetric)
        try:
            return mqbench.fake_quantizer(algorithm, "weight", scheme=scheme)
        except IncompatibleError:
            continue
    pytest.skip("not per channel")


@pytest.mark.parametrize("fused", ["1", "0"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_number_of_channels(algorithm: str, fused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.SWITCH, fused)
    fq = weight_quantizer(algorithm).initialize(torch.randn(4, 3))
    follows_the_weight = not fq.needs_calibration
    for shape in ((5, 3), (400, 3), ()):
        x = torch.randn(shape, requires_grad=True)
        if follows_the_weight and shape:
            assert fq(x).shape == shape  # its range is taken anew
            continue
        with pytest.raises(RequestError, match="channel"):
            fq(x)
        with pytest.raises(RequestError, match="channel"):
            fq.quantize(x)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_vectors_and_numbers(algorithm: str, per_channel: bool) -> None:
    shapes = [(6,)] if per_channel else [(6,), ()]
    for shape in shapes:
        x = torch.randn(shape) + 0.1
        fq = weight_quantizer(algorithm, per_channel=per_channel).initialize(x)
        x.requires_grad_()
        y: Tensor = fq(x)
        y.sum().backward()
        assert y.shape == shape
        assert x.grad is not None
        fq.eval()
        torch.testing.assert_close(fq(x), fq.dequantize(fq.quantize(x)))


@pytest.mark.parametrize("role", ["weight", "activation"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_values_near_the_end_of_floats(algorithm: str, role: Any) -> None:
    scheme = mqbench.QuantScheme(power_of_two=algorithm == "tqt")
    fq = mqbench.fake_quantizer(algorithm, role, scheme=scheme)
    with pytest.raises((CalibrationError, RequestError), match=r"within|finite"):
        fq.initialize(torch.randn(4, 8) * 1e38)
    fq.initialize(torch.randn(4, 8) * 1e12)
    assert bool(fq(torch.randn(4, 8)).isfinite().all())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_integers_are_no_data(algorithm: str) -> None:
    scheme = mqbench.QuantScheme(power_of_two=algorithm == "tqt")
    fq = mqbench.fake_quantizer(algorithm, "weight", scheme=scheme)
    for data in (torch.ones(4, 4, dtype=torch.int64), torch.ones(4, 4, dtype=torch.bool)):
        with pytest.raises(RequestError, match="floating-point"):
            fq.initialize(data)


@pytest.mark.parametrize("axis", [1.5, "0", True])
def test_an_axis_is_an_integer(axis: Any) -> None:
    scheme = mqbench.QuantScheme(per_channel=True)
    with pytest.raises(RequestError, match="must be an integer"):
        mqbench.fake_quantizer("lsq", "weight", scheme=scheme, channel_axis=axis)
    with pytest.raises(RequestError, match="must be an integer"):
        mqbench.observers["minmax"](scheme, channel_axis=axis).observe(torch.randn(4, 4))


@pytest.mark.parametrize("field", ["symmetric", "signed", "per_channel", "power_of_two"])
def test_a_scheme_takes_truth_values(field: str) -> None:
    with pytest.raises(RequestError, match=f"{field} must be True or False, got 'no'"):
        mqbench.QuantScheme(**{field: "no"})  # type: ignore[arg-type]
