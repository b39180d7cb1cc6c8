"""prepare: the quantized network is the float network plus quantizers, under every setting."""

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.errors import CalibrationError, IncompatibleError, RequestError, UnknownNameError
from mqbench.preparation import quantizers
from networks import Basic, Concat, Inverted, Net, SqueezeExcite, images, trained

SETTINGS = ["academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm"]
UNIFORM = [n for n in mqbench.algorithms if mqbench.algorithms[n].deployable]


def network() -> nn.Module:
    return trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8))


def ready(net: nn.Module, backend: str = "tensorrt", algorithm: str = "lsq", **options: Any) -> Any:
    q = mqbench.prepare(net, images(), backend=backend, algorithm=algorithm, **options)
    mqbench.calibrate(q, [images()])
    return q


@pytest.mark.parametrize("backend", list(mqbench.backends))
def test_switched_off_is_the_float_network(backend: str) -> None:
    net = network()
    x = images(7)
    folded = mqbench.backends[backend].bn_folding != -1
    q = ready(net, backend)
    with mqbench.quantization_off(q):
        got = q(x)
    if folded:
        torch.testing.assert_close(got, net(x), rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(got, net(x))
    assert not torch.equal(q(x), got), "quantization must be on again"


@pytest.mark.parametrize(("backend", "algorithm"), list(itertools.product(SETTINGS, UNIFORM)))
def test_every_pair_trains(backend: str, algorithm: str) -> None:
    if algorithm == "tqt" and backend != "tvm":
        pytest.skip("power-of-two scales only")
    q = ready(network(), backend, algorithm).train()
    q(images()).square().sum().backward()
    learned = {n: p for n, p in q.named_parameters() if p.requires_grad}
    silent = [n for n, p in learned.items() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    assert any(p.grad.abs().sum() > 0 for n, p in learned.items() if "weight_quantizer" not in n)


@pytest.mark.parametrize("backend", SETTINGS)
def test_grids_are_the_backends(backend: str) -> None:
    library = mqbench.backends[backend]
    q = ready(network(), backend, bits=(3, 5))
    for name, fq in quantizers(q):
        edge = name in ("stem.0.weight_quantizer", "fc.weight_quantizer") or name.split(".")[-1] in (
            "x", "mean", "stem_0_input", "fc_input",
        )  # fmt: skip
        bits = 8 if edge else (3 if fq.role == "weight" else 5)
        want = library.weight_scheme(bits) if fq.role == "weight" else library.activation_scheme(bits)
        if library.adaptive_sign and fq.role == "activation":
            assert fq.scheme.signed == (not fq._nonnegative)
        else:
            assert fq.scheme == want, name


def test_adaptive_sign_is_decided_by_data() -> None:
    q = ready(network(), "academic")
    signs = {n: fq.scheme.signed for n, fq in quantizers(q) if fq.role == "activation"}
    assert signs["activation_quantizers.stem_0_input"]
    assert not signs["activation_quantizers.blocks_0_a_0_input"]


def test_plain_minmax_at_the_8_bit_ends() -> None:
    q = ready(network(), "tvm", "pact")
    kinds = {n.removeprefix("activation_quantizers."): type(fq).__name__ for n, fq in quantizers(q)}
    assert kinds["x"] == kinds["mean"] == "MinMaxActivation"
    assert kinds["blocks_0_a_0"] == "PACTActivation"
    assert kinds["stem.0.weight_quantizer"] == "DoReFaWeight"
    q = ready(network(), "tvm", "pact", first_last_bits=4)
    assert type(dict(quantizers(q))["activation_quantizers.x"]).__name__ == "PACTActivation"


def test_graph_and_folding_can_be_chosen() -> None:
    q = ready(network(), "academic", graph=3, bn_folding=4)
    assert "activation_quantizers.blocks_0_add" in dict(q.named_modules())
    assert q.get_submodule("stem.0").folding.number == 4
    assert isinstance(q.get_submodule("stem.1"), nn.BatchNorm2d)


@pytest.mark.parametrize("folding", range(-1, 5))
def test_checkpoints_load_by_name(folding: int) -> None:
    net, other = network(), trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8), seed=5)
    q = ready(net, bn_folding=folding)
    if folding == 0:  # weights of the same name are merged ones
        with pytest.raises(RequestError, match="strategy 0 has merged"):
            q.load_state_dict(other.state_dict(), strict=False)
        return
    loaded = q.load_state_dict(other.state_dict(), strict=False)
    assert all("quantizer" in name for name in loaded.missing_keys)
    assert not loaded.unexpected_keys
    with mqbench.quantization_off(q):
        torch.testing.assert_close(q(images()), other(images()), rtol=1e-5, atol=1e-5)
    assert not net.load_state_dict(q.state_dict(), strict=False).missing_keys
    assert torch.equal(net(images()), other(images()))


def test_the_quantized_state_round_trips() -> None:
    for backend in ("academic", "fbgemm"):
        q = ready(network(), backend, "lsq")
        x = images(3)
        other = mqbench.prepare(network(), images(), backend=backend, algorithm="lsq")
        other.load_state_dict(q.state_dict())
        assert torch.equal(other.eval()(x), q.eval()(x))
        assert torch.equal(copy.deepcopy(q)(x), q(x))


def test_a_layer_can_stay_float() -> None:
    q = ready(network(), skip=["blocks.0.a.0"])
    assert type(q.get_submodule("blocks.0.a.0")) is nn.Conv2d


class TwoNorms(nn.Module):
    """One convolution with two batch norms, as in networks with domain-specific statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.conv(torch.relu(self.a(self.conv(x)))))


@pytest.mark.parametrize("folding", range(-1, 5))
def test_one_layer_with_two_batch_norms(folding: int) -> None:
    net = trained(TwoNorms())
    q = ready(net, bn_folding=folding)
    with mqbench.quantization_off(q):
        torch.testing.assert_close(q(images()), net(images()), rtol=1e-5, atol=1e-5)
    q.train()
    q(images()).square().sum().backward()
    d = mqbench.convert(q.eval())
    torch.testing.assert_close(d(images()), q(images()), rtol=1e-5, atol=1e-5)
    if folding > 0:
        assert not q.load_state_dict(net.state_dict(), strict=False).unexpected_keys
        assert set(net.state_dict()) <= set(q.state_dict())


@pytest.mark.parametrize("net", [Net(Concat()), Net(SqueezeExcite()), Net(Inverted())])
@pytest.mark.parametrize("backend", SETTINGS)
def test_other_structures(net: nn.Module, backend: str) -> None:
    net = trained(net)
    q = ready(net, backend)
    with mqbench.quantization_off(q):
        torch.testing.assert_close(q(images()), net(images()), rtol=1e-5, atol=1e-5)
    assert torch.isfinite(q.train()(images())).all()


def test_any_batch_size() -> None:
    q = ready(network())
    assert [len(q(images(n))) for n in (1, 2, 9)] == [1, 2, 9]


def test_use_before_calibration_is_refused() -> None:
    q = mqbench.prepare(network(), images(), backend="tvm", algorithm="lsq")
    with pytest.raises(CalibrationError, match="calibrate"):
        q(images())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"backend": "tensorflow"}, UnknownNameError, "unknown backend 'tensorflow'.*tensorrt"),
        ({"algorithm": "lsqq"}, UnknownNameError, "did you mean 'lsq'"),
        ({"bits": 1}, RequestError, "bits must be from 2 to 16, got 1"),
        ({"bits": (4, 17)}, RequestError, "got 17"),
        ({"bits": (4, 4, 4)}, RequestError, "one integer or"),
        ({"bits": 4.5}, RequestError, "integer"),
        ({"bn_folding": 5}, RequestError, "-1, 0, 1, 2, 3, 4"),
        ({"graph": 4}, RequestError, "1, 2 or 3"),
        ({"first_last_bits": "8"}, RequestError, "integer"),
        ({"algorithm": ["lsq"]}, RequestError, "are names"),
        ({"skip": ["nope"]}, RequestError, "cannot skip 'nope'"),
        ({"layer_bits": {"nope": 8}}, RequestError, "cannot give bits to 'nope'"),
        ({"layer_bits": {"stem.0": 1}}, RequestError, "bits must be from 2 to 16, got 1"),
        ({"layer_bits": {"stem.0": 8}, "skip": "stem.0"}, RequestError, "'stem.0' is to be skipped"),
        (
            {"backend": "academic", "algorithm": "ptq", "graph": 1, "first_last_bits": 0},
            RequestError,
            "got 0",
        ),
    ],
)
def test_wrong_requests(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        mqbench.prepare(network(), images(), **{"backend": "tensorrt", "algorithm": "lsq", **options})


@pytest.mark.parametrize(("graph", "entering"), [(1, "blocks_1_depthwise_0_input"), (3, "blocks_1_expand_0")])
def test_single_layers_may_have_bits_of_their_own(graph: int, entering: str) -> None:
    options = {"backend": "fbgemm", "algorithm": "lsq", "bits": 4, "graph": graph}
    q = mqbench.prepare(network(), images(), layer_bits={"blocks.1.depthwise.0": 8}, **options)  # type: ignore[arg-type]
    mqbench.calibrate(q, [images()])
    q(images())
    plain = mqbench.prepare(network(), images(), **options)  # type: ignore[arg-type]
    changed = {
        name
        for (name, fq), (_, other) in zip(quantizers(q), quantizers(plain), strict=True)
        if (fq.scheme.bits, other.scheme.bits) == (8, 4)
    }
    assert changed == {"blocks.1.depthwise.0.weight_quantizer", f"activation_quantizers.{entering}"}


def test_nothing_to_quantize_is_refused() -> None:
    with pytest.raises(RequestError, match="no convolution or linear"):
        mqbench.prepare(nn.ReLU(), images(), backend="tvm", algorithm="lsq")


@pytest.mark.parametrize("folding", [2, 3, 4])
def test_cumulative_batch_norm_cannot_be_updated_folded(folding: int) -> None:
    net = Net()
    net.stem[1].momentum = None  # type: ignore[assignment]
    with pytest.raises(IncompatibleError, match=r"momentum=None"):
        mqbench.prepare(net, images(), backend="tvm", algorithm="lsq", bn_folding=folding)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 4, 3, stride=2), nn.ConvTranspose2d(4, 3, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.conv(x)))


def test_what_stays_float_is_said() -> None:
    with pytest.warns(UserWarning, match=r"stay in float.*: up \(conv_transpose2d\)"):
        q = mqbench.prepare(Decoder(), images(), backend="fbgemm", algorithm="lsq")
    mqbench.calibrate(q, [images()])
    assert q(images()).shape[1] == 3


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.a(x) * self.b(y)


def test_two_inputs() -> None:
    x, y = images(seed=1), images(seed=2)
    q = mqbench.prepare(TwoInputs(), (x, y), backend="snpe", algorithm="lsq")
    mqbench.calibrate(q, [(x, y, torch.zeros(4))])
    mqbench.calibrate_bn(q, [(x, y)])
    torch.testing.assert_close(mqbench.convert(q)(x, y), q.eval()(x, y))
    with pytest.raises(RequestError, match="starts with 2 inputs, got 1 tensors"):
        mqbench.calibrate(q, [x])


class Several(nn.Module):
    """An operation with two results, and a network with two outputs of which one is read inside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.b(torch.relu(self.a(x)))
        return hidden, self.c(hidden.mean((2, 3)) + hidden.flatten(2).max(2)[0])


@pytest.mark.parametrize("backend", ["tensorrt", "snpe"])
def test_operations_with_several_results_and_outputs_that_are_read(backend: str) -> None:
    q = ready(Several().eval(), backend)
    assert torch.isfinite(q(images())[1]).all()
    outputs: Any = q.graph.find_nodes(op="output")[0].args[0]
    assert str(outputs[0].target) == "b", "the network's output is not quantized"
    assert any(str(n.target) == "activation_quantizers.b" for n in q.graph.nodes), "what reads it inside is"


def test_pickles() -> None:
    q = ready(network())
    for model in (q.eval(), mqbench.convert(q)):
        again = pickle.loads(pickle.dumps(model))
        assert torch.equal(again(images()), model(images()))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.relu(self.conv(torch.relu(self.stem(x)))))


def test_a_layer_that_is_also_the_last_has_its_bits() -> None:
    q = ready(Shared().eval(), "fbgemm")
    assert q.get_submodule("conv").weight_quantizer.scheme.bits == 8


@pytest.mark.parametrize(
    ("model", "said"), [("net", r"torch\.nn\.Module, got str"), (mqbench.QuantScheme(), "got QuantScheme")]
)
def test_not_a_model(model: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        mqbench.prepare(model, images(), backend="tvm", algorithm="lsq")


def test_preparing_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="quantized already"):
        ready(ready(network()))
