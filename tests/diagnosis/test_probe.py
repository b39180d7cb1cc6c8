"""Taking quantizers out of a network: what is recomputed is what a whole run would give."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.diagnosis.probe import Probe
from mqbench.errors import RequestError
from networks import Basic, Concat, Inverted, Net, SqueezeExcite, images, trained
from test_attention import MASKS, Attend, tokens

NETS = {
    "basic": lambda: Net(Basic(4, 8, 2), Inverted(8, 8), channels=8),
    "concat": lambda: Net(Concat()),
    "gated": lambda: Net(SqueezeExcite()),
}


def quantized(
    net: nn.Module, x: Tensor, backend: str = "fbgemm", algorithm: str = "lsq", **options: Any
) -> Any:
    q = mqbench.prepare(net, x, backend=backend, algorithm=algorithm, **{"bits": 4, **options})
    mqbench.calibrate(q, [x])
    return q.eval()


@pytest.mark.parametrize(
    ("net", "backend", "deployed"),
    [
        ("basic", "fbgemm", False),
        ("basic", "tensorrt", False),
        ("basic", "academic", False),
        ("basic", "snpe", True),
        ("concat", "tvm", False),
        ("gated", "acl", False),
        ("gated", "fbgemm", True),
    ],
)
def test_what_follows_a_quantizer_is_what_a_whole_run_gives(net: str, backend: str, deployed: bool) -> None:
    x = images()
    q = quantized(trained(NETS[net]()), x, backend)
    probe = Probe(mqbench.convert(q) if deployed else q)
    every = probe.removable
    found, real = probe.run((x,)), probe.run((x,), every)
    torch.testing.assert_close(probe.output(found), q(x), rtol=1e-5, atol=1e-5)
    for name in every:
        others = every - {name}
        assert torch.equal(probe.again(found, {name}, {name}), probe.output(probe.run((x,), {name})))
        assert torch.equal(probe.again(real, {name}, others), probe.output(probe.run((x,), others)))
    pair = set(itertools.islice(every, 2))
    assert torch.equal(probe.again(found, pair, pair), probe.output(probe.run((x,), pair)))


@pytest.mark.parametrize("backend", ["academic", "tensorrt", "snpe"])
def test_without_quantizers_it_is_the_float_network(backend: str) -> None:
    net, x = trained(NETS["basic"]()), images()
    probe = Probe(quantized(net, x, backend))
    torch.testing.assert_close(probe.output(probe.run((x,), probe.removable)), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mask", MASKS)
def test_quantizers_within_attention_are_points_too(mask: str) -> None:
    torch.manual_seed(0)
    net, x = Attend(MASKS[mask]).eval(), tokens()
    q = quantized(net, x)
    probe = Probe(q)
    inner = {name.rpartition(".")[2] for name in probe.points} & {"probabilities", "scores"}
    assert inner == ({"probabilities", "scores"} if mask == "bias" else {"probabilities"})
    torch.testing.assert_close(probe.output(probe.run((x,))), q(x), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(probe.output(probe.run((x,), probe.removable)), net(x))


def test_layers_and_what_feeds_them() -> None:
    x = images()
    probe = Probe(quantized(trained(NETS["basic"]()), x, "fbgemm"))
    feeding = {layer.name: layer.points[-1].removeprefix("activation_quantizers.") for layer in probe.layers}
    assert feeding["stem.0"] == "x"
    assert feeding["blocks.0.a.0"] == feeding["blocks.0.down.0"] == "stem_0"  # through the pooling
    assert feeding["fc"] == "mean"
    assert all(layer.points[0] == f"{layer.name}.weight" for layer in probe.layers)


def test_the_network_is_not_changed() -> None:
    x = images()
    q = quantized(trained(NETS["basic"]()), x)
    before, state = q(x), {name: value.clone() for name, value in q.state_dict().items()}
    probe = Probe(q)
    probe.again(probe.run((x,)), probe.removable, probe.removable)
    assert torch.equal(q(x), before)
    assert all(torch.equal(value, state[name]) for name, value in q.state_dict().items())
    fresh = Probe(q)
    assert torch.equal(probe.output(probe.run((x,))), fresh.output(fresh.run((x,))))


@pytest.mark.parametrize("model", [nn.Linear(2, 2), torch.fx.symbolic_trace(nn.ReLU())])
def test_other_networks_are_refused(model: Any) -> None:
    with pytest.raises(RequestError, match=r"from mqbench.prepare or mqbench.convert"):
        Probe(model)


class Joined(nn.Module):
    """A concat of two tensors with different numbers of channels, which only one layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.narrow, self.mix = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), nn.Conv2d(10, 5, 1)
        self.last = nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.last(torch.relu(self.mix(torch.cat([x, torch.relu(self.narrow(x))], 1))))


@pytest.mark.parametrize("deployed", [False, True])
def test_a_layer_behind_a_concat_has_the_quantizer_of_its_inputs(deployed: bool) -> None:
    q = quantized(Joined().eval(), images())
    probe = Probe(mqbench.convert(q) if deployed else q)
    (shared,) = {name for name, point in probe.points.items() if len(point.nodes) == 2}
    assert shared in next(layer.points for layer in probe.layers if layer.name == "mix")
    assert not any(shared in layer.points for layer in probe.layers if layer.name in ("stem", "last"))
    rows = {row["quantizer"]: row for row in mqbench.diagnose(q, [images()]).to_dicts()}
    assert rows[shared]["channels"] == 6 + 4
