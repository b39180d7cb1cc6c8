"""Bias correction: channels keep their mean under quantization, and nothing but biases changes."""

from typing import Any

import pytest
import torch
from torch import Tensor

import mqbench
from mqbench.errors import CalibrationError
from mqbench.layers import QuantizedLayer
from networks import Basic, Inverted, Net, SqueezeExcite, images, trained


def prepared(folding: int, bits: int = 3) -> Any:
    net = trained(Net(Basic(), Inverted(), SqueezeExcite()))
    q = mqbench.prepare(net, images(), backend="snpe", algorithm="ptq", bits=bits, bn_folding=folding)
    mqbench.calibrate(q, [images(32)])
    return q


def means(q: Any, x: Tensor) -> dict[str, Tensor]:
    """Mean of every channel of what each layer, its batch norm included, gives."""
    found: dict[str, Tensor] = {}
    handles = []
    for name, module in q.named_modules():
        own = isinstance(module, QuantizedLayer) and (module.folding is not None or module.bias is not None)
        if own or isinstance(module, torch.nn.BatchNorm2d):

            def hook(module: Any, inputs: Any, output: Any, name: str = name) -> None:
                found[name] = output.transpose(0, 1).flatten(1).mean(1)

            handles.append(module.register_forward_hook(hook))
    q(x)
    for handle in handles:
        handle.remove()
    return found


@torch.no_grad()
@pytest.mark.parametrize("folding", [-1, 0, 1, 2, 3, 4])
def test_means_are_those_of_the_float_network(folding: int) -> None:
    q, x = prepared(folding), images(32)
    with mqbench.quantization_off(q):
        want = means(q, x)
    before = means(q, x)
    held = {name: value.clone() for name, value in q.state_dict().items()}
    mqbench.correct_bias(q, [x])
    after = means(q, x)
    assert len(want) >= 10
    assert any(not torch.allclose(before[name], want[name], rtol=0.05, atol=0.02) for name in want)
    # a mean that moved by a rounding error may move a value behind it over a rounding edge
    torch.testing.assert_close(after, want, rtol=1e-3, atol=2e-3)
    changed = {name for name, value in q.state_dict().items() if not torch.equal(value, held[name])}
    assert changed
    assert all(name.endswith(("running_mean", ".bias")) for name in changed)
    d = mqbench.convert(q.eval())
    torch.testing.assert_close(d(x), q(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_batches_weigh_by_their_images() -> None:
    x = images(24)
    whole, parts = prepared(4, bits=8), prepared(4, bits=8)
    mqbench.correct_bias(whole, [x])
    mqbench.correct_bias(parts, [x[:16], x[16:]])
    name = "stem.1.running_mean"
    torch.testing.assert_close(whole.get_buffer(name), parts.get_buffer(name), rtol=1e-5, atol=1e-6)


def test_twice_would_correct_too_much() -> None:
    q = prepared(4)
    mqbench.correct_bias(q, [images()])
    with pytest.raises(CalibrationError, match="already"):
        mqbench.correct_bias(q, [images()])


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "at least one batch"),
        ([images(), images()[:0]], "empty batch"),
        ([torch.full((2, 3, 12, 12), torch.nan)], "finite"),
    ],
)
def test_bad_data_changes_nothing(batches: list[Tensor], said: str) -> None:
    q = prepared(4)
    before = {name: value.clone() for name, value in q.state_dict().items()}
    with pytest.raises(CalibrationError, match=said):
        mqbench.correct_bias(q, batches)
    assert all(torch.equal(value, before[name]) for name, value in q.state_dict().items())
    assert torch.isfinite(q(images())).all()


def test_it_comes_after_calibration() -> None:
    q = mqbench.prepare(trained(Net(Basic())), images(), backend="snpe", algorithm="ptq")
    with pytest.raises(CalibrationError, match="calibrate"):
        mqbench.correct_bias(q, [images()])
