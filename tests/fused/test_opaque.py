"""A model that is being compiled calls the fused passes, and what it is told of them is true."""

from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from mqbench.algorithms import lsq
from mqbench.fused import opaque
from mqbench.fused.build import compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")

LSQ = lsq.MASKED_AFTER.learned
GRID = [-8.0, 7.0, 0.1]


def values(*shape: int, order: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    return torch.randn(shape).to(memory_format=order)


def passes(order: torch.memory_format) -> dict[str, tuple[Any, ...]]:
    """Name and arguments of calls forward and backward."""
    x, gradient = values(4, 3, 5, 6, order=order), values(4, 3, 5, 6, order=order)
    scale, vectors = torch.tensor(0.3), [values(3) for _ in range(4)]
    norm = f"{LSQ.name} behind a norm"
    known = [*vectors[:1], values(3).abs(), *vectors[1:3]]
    return {
        "whole": (LSQ.name, [x], [scale, None], GRID, None, [], []),
        "backward": (LSQ.name, [gradient, x], [scale, scale + 1], GRID, None, [], [0.0, 6.0]),
        "gain": (LSQ.name, [gradient, x], [values(4), None], GRID, 0, [values(4)], []),
        "norm": (norm, [x], [None, vectors[0], scale, None], [1e-5, 0.1, *GRID], None, known, []),
        "divided norm": (
            norm,
            [gradient, x],
            [vectors[3], scale, None],
            [1e-5, *GRID],
            None,
            known,
            [0.0, 6.0],
        ),
        "statistics": ("statistics", [x], [vectors[0]], [], 1, [], []),
    }


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", passes(torch.contiguous_format))
def test_shapes_and_strides_are_as_promised(name: str, order: torch.memory_format) -> None:
    arguments = passes(order)[name]
    torch.library.opcheck(
        torch.ops.mqbench.fused_pass.default, arguments, test_utils=("test_schema", "test_faketensor")
    )


def test_a_gradient_in_another_order_is_followed() -> None:
    name, (gradient, x), *rest = passes(torch.channels_last)["backward"]
    found = torch.ops.mqbench.fused_pass(name, [gradient.contiguous(), x], *rest)
    want = torch.ops.mqbench.fused_pass(name, [gradient, x], *rest)
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(found, want, strict=True))


def called(model: nn.Module, x: torch.Tensor) -> int:
    """How many passes the forward graph of a compiled model calls."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    torch.compile(model, backend=backend, fullgraph=True)(x)
    bodies = [m for g in graphs for m in g.modules() if isinstance(m, torch.fx.GraphModule)]
    return sum("fused_pass" in str(n.target) for g in bodies for n in g.graph.nodes)


def test_passes_are_called_unless_they_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    x = values(2, 3, 8, 8)
    q = mqbench.prepare(net, x, backend="tensorrt", algorithm="lsq").train()
    mqbench.calibrate(q, [x])
    assert called(q, x) >= 4  # two weights, and the norm both ways
    monkeypatch.setenv("MQBENCH_FUSED", "0")
    assert called(q, x) == 0


def test_a_name_means_one_pass() -> None:
    with pytest.raises(AssertionError, match="identity"):
        opaque.register("identity", LSQ)
