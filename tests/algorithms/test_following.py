"""A range that is followed within the pass of batch norm and quantizer is that of the tensor between them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.algorithms import _ranges
from mqbench.functional import Incoming
from mqbench.fused.build import compiler


def trained(algorithm: str, backend: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 4, 3),
    )
    for norm in (net[1], net[4]):
        nn.init.normal_(norm.weight)  # type: ignore[arg-type]  # of both signs
    x = torch.randn(6, 3, 16, 16)
    q: Any = mqbench.prepare(net, x, backend=backend, algorithm=algorithm, bits=4)
    mqbench.calibrate(q, [x])
    q.train()
    for factor in (1, 2, 3):
        q.zero_grad()
        q(x * factor).square().sum().backward()
    gradients = {f"{name} gradient": p.grad for name, p in q.named_parameters() if p.grad is not None}
    return {**q.state_dict(), **gradients}


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("backend", ["academic", "tensorrt"])
@pytest.mark.parametrize("algorithm", ["dsq", "minmax"])
def test_to_the_bit(algorithm: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = trained(algorithm, backend)
    used: list[str] = []
    fused = _ranges.MovingRange.fake_quantize_incoming

    def apart(self: Any, x: Incoming) -> Tensor:
        used.extend(["norm"] if x.norm is not None else [])
        return fused(self, x.with_norm())

    monkeypatch.setattr(_ranges.MovingRange, "fake_quantize_incoming", apart)
    separate = trained(algorithm, backend)
    assert used
    assert together.keys() == separate.keys()
    for name, value in together.items():
        assert torch.equal(value, separate[name]), name
