"""Max pooling in one pass: torch's values and gradients, to the bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from mqbench import absorption
from mqbench.fused import pooling
from mqbench.fused.pooling import max_pool2d

aten = torch.ops.aten
WINDOWS = {
    "resnet": ((3, 3), (2, 2), (1, 1), (1, 1), False),
    "one number": ((2,), (), (0,), (1,), False),
    "overlapping": ((3, 2), (1, 1), (1, 1), (1, 1), False),
    "ceil": ((3, 3), (2, 2), (1, 1), (1, 1), True),
    "far apart": ((2, 2), (5, 3), (0, 1), (1, 1), False),
    "dilated": ((3, 3), (2, 1), (1, 1), (2, 3), False),
    "long stride": ((1, 1), (3, 4), (0, 0), (1, 1), True),
    "whole": ((9, 37), (1, 1), (0, 0), (1, 1), False),
}


def planes(dtype: torch.dtype) -> torch.Tensor:
    """Rounded, so that maxima are shared, with what compares with nothing among it."""
    torch.manual_seed(0)
    x = (2 * torch.randn(2, 3, 9, 37, dtype=dtype)).round()
    x[0, 0, 2:5, 3:9] = torch.nan
    x[0, 1] = -torch.inf
    x[1, 2, 4, 5], x[1, 2, 5, 6] = torch.inf, -torch.inf
    return x


def pooled(
    pool: Callable[..., torch.Tensor], x: torch.Tensor, window: tuple[Any, ...]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The maxima, and the gradient of the input."""
    x = x.clone().requires_grad_()
    y = pool(x, *window)
    weights = torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape) / 7
    y.backward(weights)
    return y.detach(), x.grad


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    assert a is not None
    assert b is not None
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(7), b.nan_to_num(7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_equals_torch(window: tuple[Any, ...], dtype: torch.dtype) -> None:
    expected, ours = (pooled(p, planes(dtype), window) for p in (aten.max_pool2d.default, max_pool2d))
    assert same(ours[0], expected[0])
    assert same(ours[1], expected[1])


def test_two_threads_give_the_same() -> None:
    x = planes(torch.float32).repeat(16, 8, 1, 1)
    threads = torch.get_num_threads()
    alone = pooled(max_pool2d, x, WINDOWS["resnet"])
    try:
        torch.set_num_threads(2)
        shared = pooled(max_pool2d, x, WINDOWS["resnet"])
    finally:
        torch.set_num_threads(threads)
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize(
    "x",
    [
        planes(torch.float32).to(memory_format=torch.channels_last),
        planes(torch.float32)[0],
        planes(torch.float32)[:0],
        planes(torch.float32).bfloat16(),
        planes(torch.float32)[..., ::2],
    ],
    ids=["channels last", "no batch", "empty batch", "bfloat16", "strided"],
)
def test_other_tensors_are_pooled_by_torch(x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling._MaxPool, "apply", None)
    assert same(max_pool2d(x, [3, 3], [2, 2], [1, 1]), aten.max_pool2d.default(x, [3, 3], [2, 2], [1, 1]))


def test_switched_off_it_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQBENCH_FUSED", "0")
    monkeypatch.setattr(pooling._MaxPool, "apply", None)
    x = planes(torch.float32)
    assert same(max_pool2d(x, [2]), aten.max_pool2d.default(x, [2]))


def test_a_wrong_window_is_refused_as_by_torch() -> None:
    with pytest.raises(RuntimeError, match="pad should be"):
        max_pool2d(planes(torch.float32), [3, 3], [2, 2], [2, 2])


class Stem(nn.Sequential):
    """What ResNets begin with."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 4, 3)
        )


def targets(network: torch.fx.GraphModule) -> list[str]:
    names = [str(n.target) for n in network.graph.nodes if n.op == "call_function"]
    return [short for name in names for short in ("max_pool2d", "hardtanh") if short in name]


def trained(network: torch.fx.GraphModule, x: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients of one step."""
    network.train()
    y = network(x)
    y.square().sum().backward()
    return [y.detach(), *[p.grad for p in network.parameters() if p.grad is not None]]


@pytest.mark.parametrize("backend", ["academic", "tensorrt"])
def test_clips_come_behind_the_pool_and_go_back(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Stem(), torch.randn(4, 3, 16, 16)
    how: dict[str, Any] = {"backend": backend, "algorithm": "lsq", "bits": 4}
    ours = mqbench.prepare(model, x, **how)
    with monkeypatch.context() as patch:
        patch.setattr(absorption, "_pool_first", lambda _: None)
        plain = mqbench.prepare(model, x, **how)
    mqbench.calibrate(ours, [x])
    plain.load_state_dict(ours.state_dict())
    for a, b in zip(trained(ours, x), trained(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert targets(ours) == ["max_pool2d"]  # the clip is the quantizer's
    assert targets(mqbench.convert(ours)) == ["hardtanh", "max_pool2d"]


def test_a_clip_that_others_read_stays_before_the_pool() -> None:
    class Twice(Stem):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clipped = self[2](self[1](self[0](x)))
            return self[4](self[3](clipped)).mean() + clipped.mean()

    prepared = mqbench.prepare(Twice(), torch.randn(4, 3, 16, 16), backend="academic", algorithm="lsq")
    assert targets(prepared)[:2] == ["hardtanh", "max_pool2d"]
