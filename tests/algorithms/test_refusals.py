"""Choices that cannot work are refused before any compute is spent, saying what was got, what is allowed, why."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.errors import IncompatibleError, RequestError, UnknownNameError
from mqbench.preparation import quantizers
from mqbench.quantizer import Role

ACADEMIC_ONLY = ["apot", "lqnet", "qil"]
INTEGER_BACKENDS = [name for name in mqbench.backends if mqbench.backends[name].integer]


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16, 4),
        )

    @staticmethod
    def images(count: int = 4) -> Tensor:
        return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class NeverRun(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the model must not be run before the request is checked")


def prepare(**options: Any) -> Any:
    options = {"model": NeverRun(), "backend": "academic", "bits": 4, **options}
    return mqbench.prepare(options.pop("model"), Net.images(), **options)


@pytest.mark.parametrize("algorithm", ACADEMIC_ONLY)
@pytest.mark.parametrize("backend", INTEGER_BACKENDS)
def test_academic_only_on_an_integer_backend(algorithm: str, backend: str) -> None:
    with pytest.raises(IncompatibleError) as refusal:
        prepare(algorithm=algorithm, backend=backend)
    message = str(refusal.value)
    assert all(part in message for part in (algorithm, backend, "allowed: academic", "no integer form"))


@pytest.mark.parametrize("algorithm", ACADEMIC_ONLY)
@pytest.mark.parametrize("choice", [{"graph": 2}, {"graph": 3}, {"bn_folding": 0}, {"bn_folding": 4}])
def test_academic_only_with_another_graph_or_folding(algorithm: str, choice: dict[str, int]) -> None:
    with pytest.raises(IncompatibleError, match="graph 1 and bn_folding -1 only, got") as refusal:
        prepare(algorithm=algorithm, **choice)
    ((name, value),) = choice.items()
    assert f"{name} {value}" in str(refusal.value)


@pytest.mark.parametrize("algorithm", ACADEMIC_ONLY)
def test_academic_only_works_in_its_setting(algorithm: str) -> None:
    entry = mqbench.algorithms[algorithm]
    assert not entry.deployable
    assert entry.uniform == (algorithm == "qil")
    q = prepare(model=Net(), algorithm=algorithm)
    mqbench.calibrate(q, [Net.images()])
    q.train()(Net.images()).square().mean().backward()
    inner = {name: fq for name, fq in quantizers(q) if fq.scheme.bits == 4}
    assert {type(fq) for fq in inner.values()} == {entry.weight, entry.activation}
    outer = [fq for name, fq in quantizers(q) if name not in inner]
    assert {type(fq).__name__ for fq in outer} == {"MinMaxWeight", "MinMaxActivation"}
    for fq in inner.values():
        assert all(p.grad is not None for p in fq.parameters() if p.requires_grad)
    with pytest.raises(IncompatibleError, match="cannot be deployed"):
        mqbench.convert(q)


@pytest.mark.parametrize("bits", [2, 5, 8, 16, (4, 5), (2, 4)])
def test_apot_bits(bits: Any) -> None:
    with pytest.raises(IncompatibleError, match=r"apot cannot use \d+ bits; allowed: 3 or 4"):
        prepare(algorithm="apot", bits=bits)


def test_apot_needs_plain_outer_layers() -> None:
    with pytest.raises(IncompatibleError, match="apot cannot use 6 bits"):
        prepare(algorithm="apot", first_last_bits=6)


def test_lqnet_bits() -> None:
    with pytest.raises(IncompatibleError, match="lqnet cannot use 16 bits; allowed: 2 to 8"):
        prepare(algorithm="lqnet", bits=16)


@pytest.mark.parametrize("algorithm", ACADEMIC_ONLY)
@pytest.mark.parametrize(
    ("scheme", "got", "allowed"),
    [
        ({"symmetric": False}, "asymmetric", "symmetric=True"),
        ({"power_of_two": True}, "power-of-two", "power_of_two=False"),
        ({"signed": False}, "unsigned weight", "signed=True"),
    ],
)
def test_academic_schemes(algorithm: str, scheme: dict[str, Any], got: str, allowed: str) -> None:
    with pytest.raises(IncompatibleError) as refusal:
        mqbench.fake_quantizer(algorithm, "weight", scheme=mqbench.QuantScheme(bits=4, **scheme))
    assert got in str(refusal.value)
    assert allowed in str(refusal.value)


@pytest.mark.parametrize("backend", [name for name in mqbench.backends if name != "tvm"])
def test_tqt_needs_power_of_two_scales(backend: str) -> None:
    with pytest.raises(IncompatibleError, match="tqt cannot use a float scale; allowed: power_of_two=True"):
        prepare(algorithm="tqt", backend=backend)


def test_tqt_needs_a_symmetric_scheme() -> None:
    scheme = mqbench.QuantScheme(bits=4, power_of_two=True, symmetric=False)
    with pytest.raises(IncompatibleError, match="asymmetric scheme; allowed: symmetric=True"):
        mqbench.fake_quantizer("tqt", "weight", scheme=scheme)


def test_tqt_works_on_tvm_and_deploys() -> None:
    x = Net.images()
    q = prepare(model=Net().eval(), algorithm="tqt", backend="tvm")
    mqbench.calibrate(q, [x])
    torch.testing.assert_close(mqbench.convert(q)(x), q.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", list(mqbench.algorithms))
@pytest.mark.parametrize("role", ["weight", "activation"])
def test_per_channel_is_for_weights(algorithm: str, role: Role) -> None:
    power_of_two = algorithm == "tqt"
    scheme = mqbench.QuantScheme(bits=4, per_channel=True, power_of_two=power_of_two)
    if role == "weight":
        mqbench.fake_quantizer(algorithm, role, scheme=scheme)
        return
    with pytest.raises(IncompatibleError, match="per-channel is for weights only"):
        mqbench.fake_quantizer(algorithm, role, scheme=scheme)


@pytest.mark.parametrize("bits", [1, 17, 0, -4, (4, 1), (17, 4), 4.0, True, "4"])
def test_bits_outside_2_to_16(bits: Any) -> None:
    with pytest.raises(RequestError, match="bits must be"):
        prepare(algorithm="lsq", bits=bits)


@pytest.mark.parametrize("bits", [2, 16])
def test_bits_at_the_ends(bits: int) -> None:
    x = Net.images()
    q = prepare(model=Net(), algorithm="lsq", bits=bits)
    mqbench.calibrate(q, [x])
    assert bool(q(x).isfinite().all())


def test_unknown_names() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown algorithm 'lsqq' \(did you mean 'lsq'\?\); allowed: apot"
    ):
        prepare(algorithm="lsqq")
    with pytest.raises(UnknownNameError, match="unknown backend 'tensorflow'"):
        prepare(algorithm="lsq", backend="tensorflow")
    with pytest.raises(UnknownNameError, match="unknown algorithm"):
        mqbench.fake_quantizer("_ranges", "weight", scheme=mqbench.QuantScheme())
    with pytest.raises(RequestError, match="role must be"):
        mqbench.fake_quantizer("lsq", "bias", scheme=mqbench.QuantScheme())  # type: ignore[arg-type]
