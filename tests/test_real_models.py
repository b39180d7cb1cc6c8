"""Real networks prepare under every setting, learn, convert, and stay the float network underneath."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import mqbench
from graph_rules import violations
from mqbench.layers import QuantizedLayer
from mqbench.preparation import quantizers
from real_models import CUT, MODELS, make

SETTINGS = ("academic", "tensorrt", "acl", "tvm", "snpe", "fbgemm")


@dataclass
class Network:
    model: nn.Module
    x: Tensor
    output: Tensor


def of(name: str, *, cut: bool = False) -> Network:
    model, x = make(name, cut=cut)
    with torch.no_grad():
        return Network(model, x, model(x))


def check(network: Network, backend: str, bn_folding: int | None = None) -> None:
    model, x, want = network.model, network.x, network.output
    q = mqbench.prepare(model, x, backend=backend, algorithm="lsq", bn_folding=bn_folding)
    assert violations(q, q.meta["plan"].graph) == []
    with torch.no_grad():
        mqbench.calibrate(q, [x])
        with mqbench.quantization_off(q):
            got = q(x)
    folded = any(isinstance(m, QuantizedLayer) and m.folding is not None for m in q.modules())
    if folded:
        assert (got - want).abs().max() <= 1e-4 * want.abs().max()
    else:
        assert torch.equal(got, want)
    q.train()
    q(x).square().mean().backward()
    learned = {n: p for n, p in q.named_parameters() if p.requires_grad}
    assert not [n for n, p in learned.items() if p.grad is None or not p.grad.isfinite().all()]
    assert sum(fq.role == "activation" for _, fq in quantizers(q)) > 5
    d = mqbench.convert(q.eval())
    with torch.no_grad():
        assert torch.equal(d(x), q(x))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "densenet121"])
def test_cut_models_under_snpe(name: str) -> None:
    assert name in CUT
    check(of(name, cut=True), "snpe")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_under_every_setting(name: str) -> None:
    network = of(name)
    for backend in SETTINGS:
        check(network, backend)
    check(network, "fbgemm", bn_folding=-1)
