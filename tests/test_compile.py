"""torch.compile of a whole prepared network: the same output and gradients as eager."""

import copy
from typing import Any

import pytest
import torch

import mqbench
from networks import Basic, Inverted, Net, images, trained


def gradients(model: Any, inner: Any) -> dict[str, torch.Tensor]:
    model(images()).square().mean().backward()
    return {n: p.grad for n, p in inner.named_parameters() if p.grad is not None}


CASES = [
    *(("tensorrt", "lsq", n) for n in range(-1, 5)),
    ("tvm", "pact", 4),
    ("snpe", "dsq", 4),
    ("acl", "minmax", 4),
]
FAST = [("tensorrt", "lsq", 2), ("tensorrt", "lsq", 4), ("acl", "minmax", 4)]


@pytest.mark.parametrize(
    ("backend", "algorithm", "folding"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case not in FAST)) for case in CASES],
)
def test_compiled_gradients_are_those_of_eager(backend: str, algorithm: str, folding: int) -> None:
    net = trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8))
    eager = mqbench.prepare(net, images(), backend=backend, algorithm=algorithm, bn_folding=folding).train()
    mqbench.calibrate(eager, [images()])
    other = copy.deepcopy(eager)
    torch._dynamo.reset()
    compiled = torch.compile(other, backend="aot_eager")
    want, got = gradients(eager, eager), gradients(compiled, other)
    assert want.keys() == got.keys()
    for name, gradient in want.items():
        worst = (got[name] - gradient).abs().max()
        assert worst <= 1e-4 * gradient.abs().max().clamp_min(1e-3), name
    for (name, a), (_, b) in zip(eager.named_buffers(), other.named_buffers(), strict=True):
        if "running" in name:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
