"""The lowered network: what runs on integers, and that nothing is computed again or otherwise."""

from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from deployed import NETWORKS, SETTINGS, converted
from mqbench.capture import capture
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Add, Concat, Float, GlobalPool, Layer, Move, Multiply, Quantize
from mqbench.deploy.simulation import Simulation
from mqbench.errors import RequestError
from networks import Basic, Net, images, trained


@pytest.mark.parametrize("backend", [*SETTINGS, "academic"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_program_computes_what_convert_gives(network: str, backend: str) -> None:
    d = converted(network, backend)
    x = images(3, seed=5)
    torch.testing.assert_close(Simulation(lower(d))(x), d(x), rtol=1e-5, atol=1e-6)


def test_weights_and_grids_are_those_of_the_modules() -> None:
    d = converted("basic", "fbgemm", 4)
    program = lower(d)
    layers = {layer.name: layer for layer in program.layers()}
    modules = {n: m for n, m in d.named_modules() if hasattr(m, "weight_integers")}
    assert set(layers) == set(modules)
    for name, module in modules.items():
        weight = layers[name].weight
        assert torch.equal(weight.integers, module.weight_integers)
        assert torch.equal(weight.dequantize(), module.weight)
    quantizer: Any = d.get_submodule("activation_quantizers.stem_0")
    grid = program.grid("stem.0")
    assert grid is not None
    assert grid.scale == float(quantizer.scale)
    assert (grid.zero_point, grid.quant_min, grid.quant_max) == (int(quantizer.zero_point), -8, 7)


def test_graph_3_is_all_integer() -> None:
    kinds = {type(op) for op in lower(converted("basic", "snpe")).operations}
    assert kinds == {Quantize, Layer, Move, Add, GlobalPool}
    kinds = {type(op) for op in lower(converted("concat", "snpe")).operations}
    assert kinds == {Quantize, Layer, Move, Concat, GlobalPool}


def test_squeeze_and_excite_multiplies_integers() -> None:
    assert any(isinstance(op, Multiply) for op in lower(converted("squeeze", "snpe")).operations)


def test_graphs_1_and_2_have_float_islands() -> None:
    program = lower(converted("basic", "tensorrt"))
    by_name = {op.name: op for op in program.operations}
    last = by_name["blocks.0.b.0"]
    assert isinstance(last, Layer)
    assert last.clip is None
    assert program.grid("blocks.0.b.0") is None
    (reader,) = program.readers()["blocks.0.b.0"]
    assert isinstance(reader, Float)
    assert reader.target == "aten.add.Tensor"


def test_relu_becomes_an_integer_clip() -> None:
    program = lower(converted("inverted", "tensorrt"))
    expand = next(layer for layer in program.layers() if layer.name.endswith("expand.0"))
    grid = program.grid(expand.name)
    assert grid is not None
    assert expand.clip == (0, min(round(6 / grid.scale), 127))
    assert expand.bounds == (0.0, 6.0)


@pytest.mark.parametrize("backend", ["fbgemm", "acl"])
def test_zero_padding_is_merged_into_the_layer(backend: str) -> None:
    program = lower(converted("padded", backend))
    first = next(program.layers())
    assert first.padding == ((0, 1), (0, 1))
    assert not any("pad" in getattr(op, "target", "") for op in program.operations)


def test_a_skipped_layer_stays_float() -> None:
    program = lower(converted("basic", "fbgemm", skip="blocks.0.a.0"))
    by_name = {op.name: op for op in program.operations}
    assert isinstance(by_name["blocks.0.a.0"], Float)
    assert isinstance(by_name["blocks.0.b.0"], Layer)


def test_a_layer_that_is_called_twice_is_two_operations() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc(torch.relu(self.a(torch.relu(self.a(x)))).mean((2, 3)))
            return y

    d = converted(trained(Twice()), "fbgemm")
    program = lower(d)
    assert [layer.name for layer in program.layers()] == ["a", "a_1", "fc"]
    torch.testing.assert_close(Simulation(program)(images()), d(images()))


def test_a_float_network_is_a_program_too() -> None:
    net = trained(Net(Basic()))
    program = lower(capture(net, images()))
    assert all(isinstance(op, Float) for op in program.operations)
    torch.testing.assert_close(Simulation(program)(images()), net(images()))


def test_what_cannot_be_lowered_is_refused() -> None:
    with pytest.raises(RequestError, match=r"mqbench\.convert first"):
        lower(mqbench.prepare(trained(Net(Basic())), images(), backend="fbgemm", algorithm="ptq"))
    with pytest.raises(RequestError, match="got Linear"):
        lower(nn.Linear(2, 2))  # type: ignore[arg-type]
    program = lower(converted("basic", "fbgemm"))
    with pytest.raises(RequestError, match=r"must have shape \(batch, 3, 12, 12\), got \(4, 3, 10, 10\)"):
        Simulation(program)(images(size=10))
    with pytest.raises(RequestError, match="takes 1 input tensors, got 2"):
        Simulation(program)(images(), images())
