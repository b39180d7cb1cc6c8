"""convert: the deployed simulation computes what the trained network computed, from stored integers."""

from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from mqbench.conversion import DeployedQuantizer
from mqbench.errors import CalibrationError, IncompatibleError, RequestError
from mqbench.layers import DeployedLayer
from mqbench.preparation import quantizers
from networks import Basic, Concat, Inverted, Net, images, trained

SETTINGS = ["academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm"]


def fine_tuned(backend: str, algorithm: str, **options: Any) -> Any:
    torch.manual_seed(0)
    net = trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8))
    q = mqbench.prepare(net, images(), backend=backend, algorithm=algorithm, **options)
    mqbench.calibrate(q, [images()])
    q.train()
    optimizer = torch.optim.SGD(q.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        q(images(8, seed=step)).square().mean().backward()
        optimizer.step()
    return q.eval()


@pytest.mark.parametrize("algorithm", ["lsq", "pact", "dorefa", "dsq", "minmax", "ptq"])
@pytest.mark.parametrize("backend", SETTINGS)
def test_the_same_output(backend: str, algorithm: str) -> None:
    q = fine_tuned(backend, algorithm)
    x = images(16, seed=9)
    before = {k: v.clone() for k, v in q.state_dict().items()}
    d = mqbench.convert(q)
    assert all(torch.equal(v, before[k]) for k, v in q.state_dict().items()), (
        "convert must not change its input"
    )
    assert torch.equal(d(x), q(x)), "the trained simulation is the deployed one, to the bit"


@pytest.mark.parametrize("backend", SETTINGS)
def test_only_what_the_backend_computes_is_left(backend: str) -> None:
    d = mqbench.convert(fine_tuned(backend, "lsq"))
    assert not list(quantizers(d))
    norms = [n for n, m in d.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (mqbench.backends[backend].bn_folding == -1)
    assert not any(p.requires_grad for p in d.parameters())
    layers = [m for m in d.modules() if isinstance(m, DeployedLayer)]
    assert len(layers) == 8
    for layer in layers:
        integers = layer.weight_integers
        assert integers.dtype == torch.int8
        assert layer.scheme.quant_min <= int(integers.min()) <= int(integers.max()) <= layer.scheme.quant_max
        if backend == "tvm":
            assert torch.equal(layer.weight_scale.log2(), layer.weight_scale.log2().round())


def test_activation_integers_are_the_trained_ones() -> None:
    """PACT's symmetric clipping never gives quant_min; the deployed range must not either."""
    q = fine_tuned("tensorrt", "pact", first_last_bits=4)
    d = mqbench.convert(q)
    deployed = {n: m for n, m in d.named_modules() if isinstance(m, DeployedQuantizer)}
    x = torch.linspace(-20, 20, 1001)
    for name, fq in quantizers(q):
        if fq.role == "activation":
            assert torch.equal(deployed[name].quantize(x), fq.quantize(x)), name
            assert torch.equal(deployed[name](x), fq(x)), name
    assert deployed["activation_quantizers.x"].quant_min == -7


@pytest.mark.parametrize("bits", [2, 3, 8, 12, 16])
def test_other_bit_widths(bits: int) -> None:
    q = fine_tuned("fbgemm", "lsq", bits=bits, first_last_bits=bits)
    d = mqbench.convert(q)
    torch.testing.assert_close(d(images()), q(images()), rtol=1e-4, atol=1e-4)
    layer = next(m for m in d.modules() if isinstance(m, DeployedLayer))
    assert layer.weight_integers.dtype == (torch.int8 if bits <= 8 else torch.int32)


def test_concat_and_a_skipped_layer() -> None:
    net = trained(Net(Concat()))
    q = mqbench.prepare(net, images(), backend="snpe", algorithm="lsq", skip=["blocks.0.b.0"])
    mqbench.calibrate(q, [images()])
    torch.testing.assert_close(mqbench.convert(q)(images()), q.eval()(images()), rtol=1e-5, atol=1e-5)


def test_saves_and_loads() -> None:
    d, other = (mqbench.convert(fine_tuned(b, "lsq")) for b in ("fbgemm", "fbgemm"))
    other.load_state_dict(d.state_dict())
    assert torch.equal(other(images()), d(images()))


def test_refusals() -> None:
    with pytest.raises(RequestError, match=r"mqbench\.prepare, got Net"):
        mqbench.convert(Net())  # type: ignore[arg-type]
    q = mqbench.prepare(Net(), images(), backend="tvm", algorithm="lsq")
    with pytest.raises(CalibrationError, match="calibrate"):
        mqbench.convert(q)


@pytest.mark.parametrize("algorithm", [n for n in mqbench.algorithms if not mqbench.algorithms[n].deployable])
def test_academic_only_algorithms_are_refused(algorithm: str) -> None:
    q = mqbench.prepare(Net(), images(), backend="academic", algorithm=algorithm)
    mqbench.calibrate(q, [images()])
    with pytest.raises(IncompatibleError, match="cannot be deployed"):
        mqbench.convert(q)


def test_half_precision_is_quantized_as_in_training() -> None:
    q = fine_tuned("fbgemm", "lsq", bits=8)
    d = mqbench.convert(q)
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0)).bfloat16()
    name = "activation_quantizers.blocks_0_a_0"
    trained_one, deployed = q.get_submodule(name), d.get_submodule(name)
    assert torch.equal(deployed.quantize(x), trained_one.quantize(x))  # type: ignore[operator]
    assert torch.equal(deployed(x), trained_one(x))
