"""What a quantizer absorbs is invisible: the same numbers, gradients, statistics and deployed graph."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from mqbench import deferring, layers
from mqbench.folding import _statistics, corrected_statistics, explicit_norm
from mqbench.fused import elementwise, recompute
from networks import Basic, Inverted, Net, images, trained

aten = torch.ops.aten
ACTIVATIONS = (aten.relu.default, aten.relu6.default, aten.hardtanh.default)
CASES = [
    ("academic", "lsq", -1),
    ("tensorrt", "lsq", 4),
    ("snpe", "lsq", 4),
    ("fbgemm", "pact", 4),
    ("tvm", "tqt", 4),
    ("acl", "dsq", 4),
    ("tensorrt", "lsq", 2),
    ("tensorrt", "lsq", 3),
    ("fbgemm", "minmax", 3),
    ("academic", "dorefa", -1),
    ("academic", "ptq", -1),
]


def prepared(backend: str, algorithm: str, folding: int, dtype: torch.dtype = torch.float64) -> Any:
    net = trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8)).to(dtype)
    q = mqbench.prepare(net, images().to(dtype), backend=backend, algorithm=algorithm, bn_folding=folding)
    mqbench.calibrate(q, [images().to(dtype)])
    return q.train()


def step(q: Any) -> dict[str, torch.Tensor]:
    y = q(images().double())
    y.square().mean().backward()
    gradients = {n: p.grad for n, p in q.named_parameters() if p.grad is not None}
    return {"output": y.detach(), **gradients, **dict(q.named_buffers())}


def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fused, deferred or computed by linearity."""
    monkeypatch.setattr(elementwise, "takes", lambda _: False)
    for module in (deferring, explicit_norm, corrected_statistics, _statistics):
        monkeypatch.setattr(module, "can_defer", lambda _: False)
    monkeypatch.setattr(layers, "data_convolution", lambda *_: None)


@pytest.mark.parametrize(("backend", "algorithm", "folding"), CASES)
def test_a_training_step_is_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, backend: str, algorithm: str, folding: int
) -> None:
    q = prepared(backend, algorithm, folding)
    other = copy.deepcopy(q)
    fused = step(q)
    plainly(monkeypatch)
    plain = step(other)
    assert fused.keys() == plain.keys()
    for name, want in plain.items():
        size = want.double().abs().max().clamp_min(1e-9)
        assert (fused[name].double() - want.double()).abs().max() <= 1e-6 * size, name


def test_float32_is_deferred_and_close(monkeypatch: pytest.MonkeyPatch) -> None:
    q = prepared("tensorrt", "lsq", 4, torch.float32)
    assert any(layer.defers for layer in q.modules() if isinstance(layer, layers.QuantizedLayer))
    other = copy.deepcopy(q)
    y = q(images())
    plainly(monkeypatch)
    torch.testing.assert_close(y, other(images()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("backend", "folding"), [("academic", -1), ("tensorrt", 4), ("fbgemm", 4)])
def test_the_deployed_graph_shows_everything_again(backend: str, folding: int) -> None:
    q = prepared(backend, "lsq", folding, torch.float32).eval()
    called = [n.target for n in q.graph.nodes]
    absorbed = {(n.args[0], n.kwargs["activation"]) for n in q.graph.nodes if "activation" in n.kwargs}
    assert absorbed
    for model in (q, copy.deepcopy(q)):
        d = mqbench.convert(model)
        nodes = list(d.graph.nodes)
        shown = [n for n in nodes if n.target in ACTIVATIONS]
        assert len(shown) == len(absorbed) + sum(t in ACTIVATIONS for t in called)
        assert all("val" in n.meta for n in shown)
        assert not [n for n in nodes if "activation" in n.kwargs]
        assert not [m for m in d.modules() if type(m).__name__.startswith("Deferring")]
        assert torch.equal(d(images()), q(images()))


def test_a_batch_norm_that_is_watched_computes_itself() -> None:
    q = prepared("academic", "lsq", -1, torch.float32)
    seen: list[Any] = []
    norms = [m for m in q.modules() if type(m).__name__.startswith("Deferring")]
    assert norms
    for norm in norms:
        norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    q(images())
    assert len(seen) == len(norms)
    assert all(isinstance(output, torch.Tensor) for output in seen)


def test_quantization_off_trains_the_float_network() -> None:
    net = trained(Net(Basic(4, 8, 2), Inverted(8, 8), channels=8))
    q = mqbench.prepare(net, images(), backend="academic", algorithm="lsq")
    mqbench.calibrate(q, [images()])
    with mqbench.quantization_off(q):
        y = q.train()(images())
    want = net.train()(images())
    assert torch.equal(y, want)
    for name, buffer in net.named_buffers():
        assert torch.equal(dict(q.named_buffers())[name], buffer), name


def test_synchronised_batch_norm_still_replaces() -> None:
    q = prepared("academic", "lsq", -1, torch.float32)
    count = sum(isinstance(m, nn.BatchNorm2d) for m in q.modules())
    q = nn.SyncBatchNorm.convert_sync_batchnorm(q)
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in q.modules()) == count > 0


def test_layers_keep_no_quantized_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """What backward needs of a quantized input is made again: fewer tensors are saved than without."""
    q = prepared("tensorrt", "lsq", 4, torch.float32)
    saved: dict[int, int] = {}

    def note(t: torch.Tensor) -> torch.Tensor:
        saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        q(images())
    recomputed = sum(saved.values())
    saved.clear()
    monkeypatch.setattr(
        layers, "recomputed", lambda *_: torch.autograd.graph.saved_tensors_hooks(note, lambda t: t)
    )
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        q(images())
    assert recomputed < sum(saved.values())


def test_what_two_operations_read_is_made_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two convolutions of strategy 2; a second backward pass makes it anew, and keeps nothing."""
    q = prepared("tensorrt", "lsq", 2, torch.float32)
    made: list[recompute.Recipe] = []
    make = recompute.Recipe.make

    def count(recipe: recompute.Recipe) -> torch.Tensor:
        made.append(recipe)
        return make(recipe)

    def gradients() -> list[torch.Tensor]:
        q.zero_grad()
        loss.backward(retain_graph=True)
        return [p.grad.clone() for p in q.parameters() if p.grad is not None]

    monkeypatch.setattr(recompute.Recipe, "make", count)
    loss = q(images()).square().mean()
    first = gradients()
    assert len(made) == len({id(recipe) for recipe in made}) > 0
    assert all(torch.equal(*pair) for pair in zip(first, gradients(), strict=True))


@pytest.mark.parametrize(
    ("backend", "algorithm", "folding"),
    [("academic", "lsq", -1), ("fbgemm", "lsq", 4), ("tensorrt", "lsq", 3), ("tvm", "dsq", 4)],
)
def test_channels_last_trains_as_any_order(backend: str, algorithm: str, folding: int) -> None:
    ordered = prepared(backend, algorithm, folding, torch.float32)
    last = copy.deepcopy(ordered).to(memory_format=torch.channels_last)
    found = []
    for network, x in ((ordered, images()), (last, images().to(memory_format=torch.channels_last))):
        network.train()
        network(x).square().mean().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        found.append((gradients, {n: b for n, b in network.named_buffers() if "running" in n}))
    (want, statistics), (got, others) = found
    for name, gradient in want.items():
        assert (got[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max().clamp_min(1e-3), name
    for name, statistic in statistics.items():
        torch.testing.assert_close(others[name], statistic, rtol=1e-5, atol=1e-5)
