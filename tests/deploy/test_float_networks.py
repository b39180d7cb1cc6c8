"""Engines whose files are written here, on float networks: what torch computes, and what they have no form for."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as f

import mqbench
from deployed import converted
from mqbench.capture import capture
from mqbench.deploy import runtimes
from mqbench.deploy.float_program import float_network
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Program
from mqbench.deploy.simulation import Simulation
from mqbench.errors import IncompatibleError, RequestError
from networks import images, trained
from real_models import make

ENGINES = {"litert": "ai_edge_litert", "litert_reference": "ai_edge_litert", "tvm": "tvm"}
ARCHITECTURES = ["resnet18", "resnet50", "mobilenetv2_100", "tf_efficientnet_lite0", "regnetx_006"]
REPEATS = ("resnet50", "regnetx_006")  # their operations are those of resnet18 and of `Layers`


def check(runtime: str, program: Program, x: Tensor, expected: Tensor) -> None:
    pytest.importorskip(ENGINES[runtime])
    session = runtimes[runtime].load(program)  # type: ignore[index]
    assert "integer" not in {node.precision for node in session.nodes()}
    for batch, wanted in ((x, expected), (x[:1], expected[:1])):
        got = session.run(batch)[program.outputs[0]]
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


class Functions(nn.Module):
    """Every activation function, and what they are combined by."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.linspace(-1, 1, 3).reshape(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = 0.5 * x + self.offset
        gates = torch.sigmoid(x) * f.hardsigmoid(x) - torch.tanh(x) / 3
        bent = torch.cat([f.silu(x), f.hardswish(x), f.relu6(x), x.clamp(-0.2, 0.7), x.clamp(min=0.1)], 1)
        pooled = f.avg_pool2d(f.pad(bent, (1, 2, 0, 3)), 3, 2, 1) + f.adaptive_avg_pool2d(bent, 1)
        steep = torch.exp(-torch.relu(torch.sub(gates, x, alpha=2.0)))
        return torch.cat([pooled.mean((2, 3)), steep.mean(2, keepdim=True).flatten(1)], 1).softmax(-1)


class Layers(nn.Module):
    """Convolutions of all kinds, padded in front and by themselves, maximum pools of negative values, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 16, (3, 5), padding=(1, 0), groups=2, bias=False)
        self.c = nn.Conv2d(16, 32, 3, padding="same", dilation=2, groups=16)
        self.d, self.last = nn.Linear(32, 12), nn.Linear(12, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = f.pad(x, (0, 1, 2, 1))
        x = f.max_pool2d(self.a(padded), 3, 1, 1)
        x = f.max_pool2d(torch.relu(self.c(self.b(x)))[:, :, 1:], 3, 2, 1, ceil_mode=True)
        x = self.d(x.flatten(2).mean(2).unsqueeze(1)) + padded.mean((1, 2, 3)).reshape(-1, 1, 1)
        y: Tensor = self.last(x).squeeze(1)
        return y


@pytest.mark.parametrize("runtime", ENGINES)
@pytest.mark.parametrize("net", [Functions, Layers])
def test_float_operations_are_those_of_torch(net: type[nn.Module], runtime: str) -> None:
    torch.manual_seed(0)
    model, x = net().eval(), images(3)
    with torch.no_grad():
        check(runtime, lower(capture(model, (x,))), x, model(x))


class Unusual(nn.Module):
    """What networks of others hold, and none of ours: transposed convolutions, rare activation functions."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, 2)
        self.up = nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 1), groups=2, dilation=(1, 2))
        self.slopes, self.slope = nn.PReLU(6), nn.PReLU()
        self.slopes.weight.data = torch.linspace(-0.5, 0.5, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slopes(self.up(f.gelu(self.down(x), approximate="tanh")))
        bent = torch.cat([f.mish(x), f.selu(x), f.celu(x, 0.5), f.softplus(x), self.slope(x)], 1)
        return torch.log(1 + torch.abs(bent))


@pytest.mark.parametrize("net", [Functions, Layers, Unusual])
def test_float_operations_in_onnx_are_those_of_torch(net: type[nn.Module]) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, x = net().eval(), images(3)
    program = lower(capture(model, (x,)))
    with torch.no_grad():
        expected = model(x)
    got = runtimes["onnxruntime"].load(program).run(x)[program.outputs[0]]  # type: ignore[index]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runtime", ["litert", pytest.param("tvm", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in REPEATS)) for name in ARCHITECTURES],
)
def test_every_architecture_in_float(architecture: str, runtime: str) -> None:
    model, x = make(architecture, cut=True)
    with torch.no_grad():
        check(runtime, lower(capture(trained(model), (x,))), x, model(x))


@pytest.mark.parametrize("runtime", ["litert", pytest.param("tvm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("net", ["basic", "inverted", "concat", "squeeze", "pooled", "halves"])
def test_a_quantized_network_without_its_quantizers(net: str, runtime: str) -> None:
    """What latency takes for float."""
    plain = float_network(lower(converted(net, "tvm"))).program
    check(runtime, plain, images(3), Simulation(plain)(images(3)))


@pytest.mark.parametrize("runtime", ["litert", "tvm"])
def test_latency_of_both_precisions(runtime: str) -> None:
    pytest.importorskip(ENGINES[runtime])
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)
    )
    found = mqbench.latency(converted(net, "tvm"), runtime=runtime, batch_size=2, runs=1)
    assert found.speedup > 0
    assert found.integer_layers == found.layers == 3
    assert runtimes[runtime].timed  # type: ignore[index]


def test_an_engine_of_one_thread_is_not_timed_as_one_of_two() -> None:
    pytest.importorskip("tvm")
    with pytest.raises(RequestError, match="tvm runs on one thread here, got threads=2"):
        mqbench.latency(converted("basic", "tvm"), runtime="tvm", threads=2)


@pytest.mark.parametrize("runtime", ["litert", "tvm"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: torch.cumsum(x, 1), "has no aten.cumsum"),
        (lambda x: f.conv2d(x, x.mean(0, keepdim=True)[:, :, :3, :3]), "convolves with a computed weight"),
        (lambda x: f.pad(x, (1, 1, 1, 1), mode="reflect"), "pads"),
        (lambda x: f.adaptive_avg_pool2d(x, 5), "overlapping windows"),
    ],
)
def test_what_has_no_form_is_refused(change: Any, message: str, runtime: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = change(x)
            return y

    pytest.importorskip(ENGINES[runtime])
    program = lower(capture(Net(), (images(2),)))
    with pytest.raises(IncompatibleError, match=message):
        runtimes[runtime].load(program)  # type: ignore[index]
