"""calibrate: the network's quantizers get what each would get from the data it sees."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench.errors import CalibrationError, RequestError, UnknownNameError
from mqbench.preparation import quantizers
from networks import Basic, Net, images, trained


def prepared(algorithm: str = "ptq", backend: str = "fbgemm", net: nn.Module | None = None) -> Any:
    net = trained(Net(Basic())) if net is None else net
    return mqbench.prepare(net, images(), backend=backend, algorithm=algorithm)


class Spy(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize("observer", list(mqbench.observers))
def test_an_observer_can_be_chosen_for_each_role(observer: str) -> None:
    q = prepared()
    mqbench.calibrate(q, [images()], weights="minmax", activations=observer)
    fq = dict(quantizers(q))["activation_quantizers.x"]
    want = mqbench.observers[observer](fq.scheme, channel_axis=None)
    want.observe(images())
    assert torch.equal(fq.scale, want.qparams().scale)
    layer = q.get_submodule("stem.0")
    weight, _ = layer.deployed_weight(*(q.get_submodule("stem.1").get_parameter(n) for n in ("weight", "bias")),
                                      *(q.get_buffer(f"stem.1.running_{n}") for n in ("mean", "var")))  # fmt: skip
    own = mqbench.observers["minmax"](layer.weight_quantizer.scheme, channel_axis=0)
    own.observe(weight)
    torch.testing.assert_close(layer.weight_quantizer.scale, own.qparams().scale)


def test_batches_count_as_one_set() -> None:
    whole, parts = prepared("lsq"), prepared("lsq")
    data = images(6)
    mqbench.calibrate(whole, [data])
    mqbench.calibrate(parts, data.split(2))
    for (name, a), (_, b) in zip(quantizers(whole), quantizers(parts), strict=True):
        torch.testing.assert_close(a.scale, b.scale, rtol=1e-5, atol=1e-8), name


def test_the_float_network_is_what_is_observed() -> None:
    """A later quantizer does not see the rounding of an earlier one."""
    net = trained(Net(Basic()))
    q = prepared(net=net)
    mqbench.calibrate(q, [images()], activations="minmax")
    fq = dict(quantizers(q))["activation_quantizers.mean"]
    with torch.no_grad():
        head = Spy(net.fc)  # type: ignore[arg-type]
        net.fc = head
        net(images())
    want = mqbench.observers["minmax"](fq.scheme, channel_axis=None)
    want.observe(head.seen[0])
    torch.testing.assert_close(fq.scale, want.qparams().scale, rtol=1e-5, atol=1e-8)


def test_labels_are_ignored_and_modes_restored() -> None:
    q = prepared().train()
    q.get_submodule("stem.1").eval()
    mqbench.calibrate(q, [(images(), torch.zeros(4))])
    assert q.training
    assert not q.get_submodule("stem.1").training


def test_running_statistics_stay() -> None:
    q = prepared().train()
    before = q.get_buffer("stem.1.running_mean").clone()
    mqbench.calibrate(q, [images()])
    assert torch.equal(before, q.get_buffer("stem.1.running_mean"))


def test_calibrating_again_forgets_the_first_time() -> None:
    once, twice = prepared("lsq"), prepared("lsq")
    mqbench.calibrate(twice, [100 * images()])
    for q in (once, twice):
        mqbench.calibrate(q, [images()])
    assert all(
        torch.equal(a.scale, b.scale)
        for (_, a), (_, b) in zip(quantizers(once), quantizers(twice), strict=True)
    )


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "at least one batch"),
        ([torch.full((2, 3, 12, 12), torch.nan)], r"activation_quantizers\.x: .*finite"),
    ],
)
def test_bad_data(batches: list[Tensor], said: str) -> None:
    q = prepared()
    with pytest.raises(CalibrationError, match=said):
        mqbench.calibrate(q, batches)
    with pytest.raises(CalibrationError, match="calibrate"):
        q(images())
    mqbench.calibrate(q, [images()])
    assert torch.isfinite(q(images())).all()


def test_unknown_observer() -> None:
    with pytest.raises(UnknownNameError, match="minmax"):
        mqbench.calibrate(prepared(), [images()], weights="minmaxx")


def test_no_batch_for_batch_norm_calibration() -> None:
    q = prepared()
    mqbench.calibrate(q, [images()])
    before = {k: v.clone() for k, v in q.state_dict().items()}
    with pytest.raises(CalibrationError, match="at least one batch"):
        mqbench.calibrate_bn(q, [])
    assert all(torch.equal(v, before[k]) for k, v in q.state_dict().items())


@pytest.mark.parametrize("folding", [-1, 1, 2, 3, 4])
def test_batch_norm_calibration_helps_a_network_with_wrong_statistics(folding: int) -> None:
    net: Any = trained(Net(Basic()))
    with torch.no_grad():  # right statistics
        net.train()
        for step in range(200):
            net(images(16, seed=step))
        net.eval()
    x = images(64, seed=1000)
    want = net(x)
    q = mqbench.prepare(net, images(), backend="fbgemm", algorithm="ptq", bits=8, bn_folding=folding)
    mqbench.calibrate(q, [x])
    q.get_buffer("stem.1.running_var").mul_(9)
    before = (q(x) - want).square().mean().item()
    mqbench.calibrate_bn(q, [x])
    after = (q(x) - want).square().mean().item()
    assert after < before / 3


def test_what_is_not_prepared_or_not_a_list_of_batches_is_refused() -> None:
    with pytest.raises(RequestError, match=r"mqbench\.prepare, got Net"):
        mqbench.calibrate(Net(), [images()])
    with pytest.raises(RequestError, match=r"use \[x\]"):
        mqbench.calibrate(prepared(), images())
    with pytest.raises(RequestError, match="got dict"):
        mqbench.calibrate(prepared(), [{"x": images()}])  # type: ignore[list-item]


def test_a_wrong_observer_changes_no_statistics() -> None:
    q = prepared()
    mqbench.calibrate(q, [images()])
    before = q.get_buffer("stem.1.running_mean").clone()
    with pytest.raises(UnknownNameError):
        mqbench.calibrate_bn(q, [images()], weights="zzz")
    assert torch.equal(before, q.get_buffer("stem.1.running_mean"))


def test_pact_starts_at_six_again() -> None:
    q = prepared("pact", "snpe")
    mqbench.calibrate(q, [images()], activations="minmax")
    fq: Any = dict(quantizers(q))["activation_quantizers.blocks_0_a_0"]
    assert fq.alpha != 6
    mqbench.calibrate(q, [images()])
    assert fq.alpha == 6


@pytest.mark.parametrize("folding", [-1, 2, 4])
@pytest.mark.parametrize(
    "batches", [[torch.full((2, 3, 12, 12), torch.nan)], [images(), images()[:0]]], ids=["nan", "empty"]
)
def test_bad_data_for_batch_norm_calibration_changes_nothing(folding: int, batches: list[Tensor]) -> None:
    q = mqbench.prepare(
        trained(Net(Basic())), images(), backend="fbgemm", algorithm="lsq", bn_folding=folding
    )
    mqbench.calibrate(q, [images()])
    before = {k: v.clone() for k, v in q.state_dict().items()}
    with pytest.raises(CalibrationError):
        mqbench.calibrate_bn(q, batches)
    assert all(torch.equal(v, before[k]) for k, v in q.state_dict().items())
    assert torch.isfinite(q(images())).all()


def test_batch_norm_calibration_remembers_the_observer() -> None:
    q, other = prepared("lsq"), prepared("lsq")
    for model, again in ((q, None), (other, "minmax")):
        mqbench.calibrate(model, [images()], weights="minmax")
        mqbench.calibrate_bn(model, [images()], weights=again)
    assert torch.equal(
        q.get_submodule("stem.0").weight_quantizer.scale, other.get_submodule("stem.0").weight_quantizer.scale
    )
