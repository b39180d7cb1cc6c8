"""Every conformance case of SPEC section 13, through the public entry points.

The folder is named by MQBENCH_CONFORMANCE (default: the copy beside this file); whatever cases it holds
are run. A kind that is not handled here is a failure, not a skip.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mqbench
from mqbench import functional as F
from mqbench.calibration import calibrate_bn
from mqbench.deploy import integer
from mqbench.folding._statistics import combine_statistics
from mqbench.preparation import quantizers
from mqbench.quantizer import Role

FOLDER = Path(os.environ.get("MQBENCH_CONFORMANCE") or Path(__file__).parent / "conformance")
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text())
ELSEWHERE = {"calib"}  # tests/observers/test_conformance_calib.py


class Case:
    """One case: its configuration and arrays as float32 (or integer) tensors."""

    def __init__(self, name: str) -> None:
        self.config = CASES[name]
        with np.load(FOLDER / "vectors.npz") as vectors:
            self._arrays = {a: vectors[f"{name}/{a}"] for a in self.config["arrays"]}

    def __getitem__(self, name: str) -> Tensor:
        array = torch.from_numpy(np.asarray(self._arrays[name]))
        return array.float() if array.dtype == torch.float64 else array

    def get(self, name: str) -> Any:
        return self.config.get(name)

    def mask(self, *names: str) -> Tensor | None:
        found = [self[name] for name in names if name in self._arrays]
        return torch.stack(found).all(0) if found else None

    def __contains__(self, name: str) -> bool:
        return name in self._arrays


def forward_close(got: Tensor, want: Tensor, mask: Tensor | None = None) -> None:
    excess = (got.detach() - want).abs() - 1e-5 * want.abs().clamp_min(1)
    if mask is not None:
        excess = excess[mask]
    assert excess.max() <= 0, f"off by {(got.detach() - want).abs().max()}"


def gradient_close(got: Tensor | None, want: Tensor) -> None:
    assert got is not None, "no gradient"
    torch.testing.assert_close(got.reshape(want.shape), want, rtol=2e-4, atol=2e-5)


def scheme_of(case: Case, *, pot: bool | None = None, signed: bool | None = None) -> mqbench.QuantScheme:
    mode = case.get("mode")
    symmetric = case.get("symmetric") if mode is None else mode in ("sym", "unsigned")
    if signed is None:
        signed = case.get("signed") if mode is None else mode != "unsigned"
    return mqbench.QuantScheme(
        bits=case.get("bits"),
        symmetric=True if symmetric is None else symmetric,
        signed=True if signed is None else signed,
        per_channel=case.get("axis") is not None,
        power_of_two=bool(case.get("pot")) if pot is None else pot,
    )


def eq1(case: Case) -> None:
    scheme = mqbench.QuantScheme(bits=case.get("bits"), symmetric=False, signed=case.get("signed"),
                                 per_channel=case.get("axis") is not None)  # fmt: skip
    fq = mqbench.fake_quantizer("ptq", "weight", scheme=scheme, channel_axis=case.get("axis"))
    x = case["x"].requires_grad_()
    fq.initialize(x.detach())
    state = {
        **fq.state_dict(),
        "fixed_scale": case["s"],
        "fixed_zero_point": case["z"].int().expand_as(case["s"]),
    }
    fq.load_state_dict(state)
    assert torch.equal(fq.quantize(x.detach()), case["q"].int())
    y = fq(x)
    forward_close(y, case["y"])
    y.backward(case["dy"])
    assert x.grad is not None
    forward_close(x.grad, case["dx"])
    axis = case.get("axis")
    s, z = (F.broadcast(p, x, axis) for p in (fq.scale, fq.zero_point))
    assert torch.equal(F.quantize(x, s, z, scheme.quant_min, scheme.quant_max), case["q"].int())


def lsq(case: Case) -> None:
    role: Role = "weight" if case.get("role") == "weight" else "activation"
    scheme = scheme_of(case)
    fq: Any = mqbench.fake_quantizer("lsq", role, scheme=scheme, channel_axis=case.get("axis"))
    x = case["x"].requires_grad_()
    fq.initialize(x.detach())
    # the recorded initial scale is the one before power-of-two rounding
    want_s = F.power_of_two(case["init_s"]) if case.get("pot") else case["init_s"]
    torch.testing.assert_close(fq.scale, want_s, rtol=1e-5, atol=0)
    assert bool((fq.zero_point == case["init_z"].int()).all())
    fq.step_size.data = case["s"]
    if fq.offset is not None:
        fq.offset.data = case["z"]
    y = fq(x)
    forward_close(y, case["y"])
    y.backward(case["dy"])
    assert x.grad is not None
    forward_close(x.grad, case["dx"])
    gradient_close(fq.step_size.grad, case["ds"])
    if fq.offset is not None:
        gradient_close(fq.offset.grad, case["dz"])


def _clipped(case: Case, algorithm: str) -> Any:
    fq: Any = mqbench.fake_quantizer(algorithm, "activation", scheme=scheme_of(case))
    sample = torch.linspace(0 if case.get("mode") == "asym_nonneg" else -1, 1, 16)
    return fq.initialize(sample)


def pact(case: Case) -> None:
    fq = _clipped(case, "pact")
    fq.alpha.data = case["alpha"]
    if fq.beta is not None:
        fq.beta.data = case["beta"]
    _check_activation(case, fq)
    gradient_close(fq.alpha.grad, case["dalpha"])
    if fq.beta is not None and fq.beta.requires_grad:
        gradient_close(fq.beta.grad, case["dbeta"])
    else:
        assert case["dbeta"] == 0


def dorefa_act(case: Case) -> None:
    fq = _clipped(case, "dorefa")
    _check_activation(case, fq)
    assert not any(p.requires_grad for p in fq.parameters())


def _check_activation(case: Case, fq: Any) -> None:
    x = case["x"].requires_grad_()
    torch.testing.assert_close(fq.scale, case["s"], rtol=1e-6, atol=0)
    assert int(fq.zero_point) == int(case["z"])
    y = fq(x)
    forward_close(y, case["y"], case.mask("safe"))
    assert torch.allclose(y, (fq.quantize(x.detach()) - fq.zero_point) * fq.scale, rtol=1e-6)
    y.backward(case["dy"])
    assert x.grad is not None
    forward_close(x.grad, case["dx"], case.mask("dx_safe", "safe"))


def dorefa_w(case: Case) -> None:
    fq = mqbench.fake_quantizer("dorefa", "weight", scheme=scheme_of(case), channel_axis=case.get("axis"))
    w = case["w"].requires_grad_()
    y = fq(w)
    torch.testing.assert_close(fq.scale, case["s"], rtol=1e-5, atol=0)
    assert bool((fq.zero_point == case["z"].int()).all())
    safe = case.mask("safe")
    assert torch.equal(fq.quantize(w.detach())[safe], case["q"].int()[safe])
    forward_close(y, case["y"], safe)
    y.backward(case["dy"])
    assert w.grad is not None
    forward_close(w.grad, case["dw"], case.mask("dsafe"))


def dsq_w(case: Case) -> None:
    fq = mqbench.fake_quantizer("dsq", "weight", scheme=scheme_of(case), channel_axis=case.get("axis"))
    w = case["w"].requires_grad_()
    y = fq(w)
    torch.testing.assert_close(fq.scale, case["s"], rtol=1e-5, atol=0)
    assert bool((fq.zero_point == case["z"].int()).all())
    forward_close(y, case["y"], case.mask("safe"))
    y.backward(case["dy"])
    assert w.grad is not None
    forward_close(w.grad, case["dw"], case.mask("safe"))


def dsq_act(case: Case) -> None:
    fq: Any = mqbench.fake_quantizer("dsq", "activation", scheme=scheme_of(case))
    fq.train()
    batches, trace = case["batches"], case["trace"]
    fq.initialize(batches[0])
    for step, batch in enumerate(batches):
        if step:
            fq(batch)
        got = torch.stack([fq.range_min, fq.range_max])
        torch.testing.assert_close(got, trace[step], rtol=1e-5, atol=1e-6)
    fq.eval()
    x = case["x"].requires_grad_()
    y = fq(x)
    torch.testing.assert_close(fq.scale, case["s"], rtol=1e-5, atol=0)
    assert int(fq.zero_point) == int(case["z"])
    forward_close(y, case["y"], case.mask("safe"))
    y.backward(case["dy"])
    assert x.grad is not None
    forward_close(x.grad, case["dx"], case.mask("safe"))


def _academic(case: Case, algorithm: str, role: Role) -> Any:
    scheme = mqbench.QuantScheme(bits=case.get("bits"), signed=case.get("signed"))
    return mqbench.fake_quantizer(algorithm, role, scheme=scheme).initialize(case["x"])


def qil(case: Case) -> None:
    fq = _academic(case, "qil", "weight" if case.get("role") == "weight" else "activation")
    half = case["x"].abs().max() / 2
    assert fq.center == half
    assert fq.distance == half
    for name, value in (("center", "C"), ("distance", "D"), ("gamma", "gamma")):
        getattr(fq, name).data = case[value]
    fq.gamma.requires_grad_()
    x = case["x"].requires_grad_()
    y = fq(x)
    safe = case.mask("safe")
    forward_close(y, case["y"], safe)
    assert torch.equal(y, (fq.quantize(x.detach()) - fq.zero_point) * fq.scale)
    y.backward(case["dy"])
    assert x.grad is not None
    forward_close(x.grad, case["dx"], safe)
    for name, gradient in (("center", "dC"), ("distance", "dD"), ("gamma", "dgamma")):
        gradient_close(getattr(fq, name).grad, case[gradient])


def apot(case: Case) -> None:
    fq = _academic(case, "apot", "weight" if case.get("role") == "weight" else "activation")
    assert fq.alpha == (3 if case.get("role") == "weight" else 6)
    fq.alpha.data = case["alpha"]
    positive = fq.levels[: len(case["levels"])]
    torch.testing.assert_close(positive, case["levels"] * case["alpha"], rtol=1e-6, atol=0)
    x = case["x"].requires_grad_()
    y = fq(x)
    safe = case.mask("safe")
    forward_close(y, case["y"], safe)
    assert torch.equal(y, fq.levels[fq.quantize(x.detach())])
    y.backward(case["dy"])
    assert x.grad is not None
    forward_close(x.grad, case["dx"], safe)
    gradient_close(fq.alpha.grad, case["dalpha"])


def lqnet(case: Case) -> None:
    fq = _academic(case, "lqnet", "weight" if case.get("signed") else "activation")
    x, trace = case["x"].requires_grad_(), case["basis_trace"]
    torch.testing.assert_close(fq.basis, trace[0], rtol=1e-5, atol=0)
    fq.train()
    for basis in trace[1:]:
        fq(x.detach())
        torch.testing.assert_close(fq.basis, basis, rtol=1e-5, atol=0)
    y = fq.eval()(x)
    forward_close(y, case["y"])
    q = fq.quantize(x.detach())
    assert torch.equal(y, fq.levels[q])
    bits = (q.flatten()[:, None] - fq.scheme.quant_min) >> torch.arange(case.get("bits")) & 1
    assert torch.equal(bits * 2 - 1 if case.get("signed") else bits, case["codes"].long())
    y.backward(case["dy"])
    assert x.grad is not None
    forward_close(x.grad, case["dx"])


def fold(case: Case) -> None:
    channels, groups = case["w"].shape[0], case.get("groups")
    conv = nn.Conv2d(channels, channels, 3, padding=case.get("pad"), groups=groups)
    norm = nn.BatchNorm2d(channels, eps=case.get("eps"), momentum=case.get("momentum"))
    conv.weight.data, conv.bias.data = case["w"], case["b"]  # type: ignore[union-attr]
    norm.weight.data, norm.bias.data = case["gamma"], case["beta"]
    norm.running_mean, norm.running_var = case["rm"], case["rv"]
    backend = "tensorrt" if case.get("axis") == 0 else "academic"
    q = mqbench.prepare(
        nn.Sequential(conv, norm).train(), case["x"], backend=backend, algorithm="lsq", bits=case.get("bits"),
        bn_folding=case.get("strategy"), graph=1, first_last_bits=case.get("bits"),
    )  # fmt: skip
    mqbench.calibrate(q, [case["x"]])
    modules: Any = dict(q.named_modules())
    for _, fq in quantizers(q):
        fq.enabled = fq.role == "weight"
    layer = modules["0"]
    step = layer.weight_quantizer.step_size
    step.data = case["s"]
    if case.get("strategy") == 0:  # the vector's weight and bias are those after the merge
        layer.weight.data, layer.bias.data = case["w"], case["b"]
    q.eval()
    fold_close(q(case["x"]), case["y_eval"])
    deployed: Any = dict(mqbench.convert(q).named_modules())["0"]
    if "deploy_w_int" in case:
        assert torch.equal(deployed.weight_integers.int(), case["deploy_w_int"].int())
        torch.testing.assert_close(deployed.bias, case["deploy_b"], rtol=1e-5, atol=1e-6)
    q.train()
    x = case["x"].requires_grad_()
    y = q(x)
    fold_close(y, case["y_train"])
    y.backward(case["dy"])
    assert x.grad is not None
    gradient_near(x.grad, case["dx"])
    gradient_near(layer.weight.grad, case["dw"])
    gradient_near(layer.bias.grad, case["db"])
    gradient_scale = 1 / (case["w"].numel() / step.numel() * 7) ** 0.5
    gradient_near(step.grad / gradient_scale, case["ds"])
    strategy = case.get("strategy")
    if strategy != 0:
        norm_now = modules["1"]
        gradient_near(norm_now.weight.grad, case["dgamma"])
        gradient_near(norm_now.bias.grad, case["dbeta"])
        torch.testing.assert_close(norm_now.running_mean, case["new_rm"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm_now.running_var, case["new_rv"], rtol=1e-5, atol=1e-6)


def fold_close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got.detach(), want, rtol=1e-5, atol=1e-5)


def gradient_near(got: Tensor | None, want: Tensor) -> None:
    """2e-4 of the largest entry: sums of both signs cancel to (nearly) zero in some entries."""
    assert got is not None
    error = (got.reshape(want.shape) - want).abs().max()
    assert error <= 2e-4 * want.abs().max().clamp_min(1), f"off by {error}"


def bnstat(case: Case) -> None:
    outputs = [case[name] for name in ("o0", "o1", "o2")]
    channels = outputs[0].shape[1]
    # a 1x1 convolution with an 8-bit identity weight is exact, so the pre-BN tensor is the input
    conv = nn.Conv2d(channels, channels, 1, bias=False)
    conv.weight.data = torch.eye(channels).reshape(channels, channels, 1, 1) * 127.5
    q = mqbench.prepare(nn.Sequential(conv, nn.BatchNorm2d(channels)), outputs[0], backend="academic",
                        algorithm="ptq", bits=8)  # fmt: skip
    mqbench.calibrate(q, outputs)
    for _, fq in quantizers(q):
        fq.enabled = False
    calibrate_bn(q, [o / 127.5 for o in outputs])
    norm: Any = dict(q.named_modules())["1"]
    torch.testing.assert_close(norm.running_mean, case["calib_mean"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, case["calib_var"], rtol=1e-5, atol=1e-6)
    means = [o.mean((0, 2, 3)) for o in outputs]
    variances = [o.var((0, 2, 3), correction=0) for o in outputs]
    counts = [o.numel() // channels for o in outputs]
    mean, variance = combine_statistics(means, variances, counts)
    torch.testing.assert_close(mean, case["sync_mean"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance, case["sync_var"], rtol=1e-5, atol=1e-6)


def int_(case: Case) -> None:
    bits = case.get("bits")
    grid = mqbench.QuantScheme(bits=bits)
    low, high = grid.quant_min, grid.quant_max
    x, w = case["xq"].int(), case["wq"].int()
    zx, zw, zy = (case[n].int() for n in ("zx", "zw", "zy"))
    sx, sw, sy = (case[n] for n in ("sx", "sw", "sy"))
    bias = integer.quantize_bias(case["b"], sw, sx)
    assert torch.equal(bias, case["bq"].int())
    acc = integer.accumulate(
        torch.nn.functional.conv2d, x, w,
        x_zero_point=zx, weight_zero_point=zw, bias=bias, padding=case.get("pad"),
    )  # fmt: skip
    assert torch.equal(acc, case["acc"].int())
    acc_scale = (sx * sw).reshape(1, -1, 1, 1)
    modes = {"y_float": "float", "y_fixed": "fixed", "y_pot": "shift"}
    for name, mode in modes.items():
        if name in case:
            y = integer.requantize(acc, acc_scale / sy, zy, low, high, integer.Requantization(mode))
            one_step(y, case[name])
    y = integer.requantize(acc, acc_scale / sy, zy, max(low, int(zy)), high)
    one_step(y, case["y_relu"])
    # the vectors add at twice the output's scale, and pool the residual to half of it
    other = case["res"].int()
    to: Any = {"scale": 2 * sy, "zero_point": zy, "quant_min": low, "quant_max": high}
    one_step(integer.add(acc, acc_scale, other, sy, zy, **to), case["add_g2"])
    first = case["y_float"].int()
    one_step(integer.add(first, sy, other, sy, zy, first_zero_point=zy, **to), case["add_g3"])
    pooled = integer.global_average_pool(other, x_scale=sy, x_zero_point=zy, **{**to, "scale": sy / 2})
    one_step(pooled, case["gap"])


def one_step(got: Tensor, want: Tensor) -> None:
    assert (got - want.int()).abs().max() <= 1


KINDS: dict[str, Callable[[Case], None]] = {
    f.__name__.rstrip("_"): f
    for f in (eq1, lsq, pact, dorefa_act, dorefa_w, dsq_w, dsq_act, qil, apot, lqnet, fold, bnstat, int_)
}


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c["kind"] not in ELSEWHERE])
def test_case(name: str) -> None:
    KINDS[CASES[name]["kind"]](Case(name))


def test_there_are_cases() -> None:
    assert CASES
