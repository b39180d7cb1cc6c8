"""What every algorithm promises, for every role and scheme that it accepts; a new file is tested by existing."""

import copy
import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from quantizer_cases import (
    CASES,
    NON_UNIFORM,
    SHAPE,
    UNIFORM,
    Case,
    channels_of,
    covering,
    data,
    few_per_kind,
    kinds,
    one_per_kind,
    pairs,
    tensors,
)
from torch import Tensor

import mqbench
from mqbench import functional as F
from mqbench.errors import CalibrationError, IncompatibleError, RequestError
from mqbench.quantizer import FakeQuantize

EXAMPLES = settings(max_examples=4, deadline=None)
every = pytest.mark.parametrize("case", CASES, ids=str)
every_pair = pytest.mark.parametrize("case", covering(CASES, pairs), ids=str)
every_uniform = pytest.mark.parametrize("case", UNIFORM, ids=str)
every_few = pytest.mark.parametrize("case", few_per_kind(CASES), ids=str)
every_kind = pytest.mark.parametrize("case", one_per_kind(CASES), ids=str)


def grid_of(fq: FakeQuantize, x: Tensor) -> tuple[Tensor, Tensor]:
    axis = fq.channel_axis
    return F.broadcast(fq.scale, x, axis), F.broadcast(fq.zero_point, x, axis)


def trained_a_little(case: Case, fq: FakeQuantize) -> FakeQuantize:
    """After a few steps, so that the parameters are no round numbers."""
    training = fq.training
    fq.train()
    for seed in range(3):
        y = fq(data(seed, size=3.0, nonnegative=not fq.scheme.signed).requires_grad_())
        y.square().mean().backward()
        step(fq)
    return fq.train(training)


@torch.no_grad()
def step(fq: FakeQuantize) -> None:
    """One step of gradient descent, of a size that suits every parameter."""
    for p in fq.parameters():
        if p.grad is not None:
            p.data -= 0.01 * p.abs().max().clamp_min(0.1) * p.grad / p.grad.abs().max().clamp_min(1e-30)
            p.grad = None


# -- values ------------------------------------------------------------------------------------------


@every_pair
@given(tensors())
@EXAMPLES
def test_values(case: Case, x: Tensor) -> None:
    for training in (False, True) if case.entry.uniform else (False,):
        fq = case.ready(x, training=training)
        y, q = fq(x).detach(), fq.quantize(x)
        assert torch.equal(y, fq.dequantize(q))
        if case.entry.uniform:
            check_eq1(fq, x, y, q)
        else:
            check_levels(case, fq, y, q)
        check_range(case, fq, x)
        check_monotone(case, x, y)
        if case.entry.uniform and not training:
            check_idempotent(fq, x, y, q)


def check_eq1(fq: FakeQuantize, x: Tensor, y: Tensor, q: Tensor) -> None:
    scale, zero_point = grid_of(fq, x)
    assert torch.equal(y, (q - zero_point) * scale)
    assert bool((y[x == 0] == 0).all())
    assert bool((scale > 0).all())
    assert fq.scheme.quant_min <= int(zero_point.min())
    assert int(zero_point.max()) <= fq.scheme.quant_max
    assert not fq.scheme.symmetric or bool((zero_point == 0).all())


def check_levels(case: Case, fq: Any, y: Tensor, q: Tensor) -> None:
    levels = fq.levels.reshape(-1, fq.levels.shape[-1])
    for row, (values, codes) in enumerate(zip(channels_of(case, y), channels_of(case, q), strict=True)):
        assert torch.equal(levels[row][codes], values)


def check_range(case: Case, fq: FakeQuantize, x: Tensor) -> None:
    low, high = fq.integer_range()
    assert fq.scheme.quant_min <= low <= high <= fq.scheme.quant_max
    for values in (x, 100 * x, -x):
        q = fq.quantize(values)
        assert q.dtype == torch.int32
        assert q.shape == values.shape
        if case.entry.uniform:
            low, high = fq.integer_range()
        assert low <= int(q.min())
        assert int(q.max()) <= high
    fq.quantize(x)  # a range that follows the tensor is that of x again


def check_monotone(case: Case, x: Tensor, y: Tensor) -> None:
    for values, outputs in zip(channels_of(case, x), channels_of(case, y), strict=True):
        assert bool((outputs[values.argsort()].diff() >= 0).all())


def check_idempotent(fq: FakeQuantize, x: Tensor, y: Tensor, q: Tensor) -> None:
    scale, zero_point = grid_of(fq, x)
    assert torch.equal(F.quantize(y, scale, zero_point, *fq.integer_range()), q)
    again = fq(y)
    moved = not all(torch.equal(a, b) for a, b in zip(grid_of(fq, x), (scale, zero_point), strict=True))
    follows = moved or fq.transform(x) is not x  # the grid of y is another, or y is in other units
    assert follows or torch.equal(again, y)


@every_uniform
def test_output_is_integers_times_scale_after_training(case: Case) -> None:
    x = data(7, size=2.0)
    fq = trained_a_little(case, case.ready(x))
    y = fq(x)  # a range that follows the tensor is that of x from here on
    scale, zero_point = grid_of(fq, x)
    assert torch.equal(y, (fq.quantize(x) - zero_point) * scale)


@pytest.mark.parametrize("case", one_per_kind(NON_UNIFORM), ids=str)
def test_levels_have_no_scale(case: Case) -> None:
    fq = case.ready(data())
    with pytest.raises(IncompatibleError, match="not equally spaced"):
        _ = fq.scale


@pytest.mark.parametrize("case", [c for c in UNIFORM if c.scheme.power_of_two], ids=str)
def test_power_of_two_scales(case: Case) -> None:
    fq = trained_a_little(case, case.ready(data()))
    mantissa, _ = torch.frexp(fq.scale)
    assert bool((mantissa == 0.5).all())


@pytest.mark.parametrize("case", [c for c in one_per_kind(CASES) if c.scheme.per_channel], ids=str)
@pytest.mark.parametrize("axis", [1, -1])
def test_channel_axis(case: Case, axis: int) -> None:
    x = data()
    turned = x.movedim(0, axis).contiguous()
    expected = case.ready(x)(x)
    got = case.make(channel_axis=axis).initialize(turned).eval()(turned)
    torch.testing.assert_close(got.movedim(axis, 0), expected)


@pytest.mark.parametrize("case", [c for c in CASES if c.adaptive_sign], ids=str)
def test_adaptive_sign(case: Case) -> None:
    x = data(nonnegative=True)
    assert not case.ready(x).scheme.signed
    assert case.ready(-x).scheme.signed
    if case.entry.uniform:
        assert int(case.ready(x).quantize(100 * x).max()) == 15


# -- types and copies ----------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(case: Case, dtype: torch.dtype) -> None:
    x = data().to(dtype)
    fq = case.ready(x)
    y = fq(x.requires_grad_())
    assert y.dtype == dtype
    assert torch.equal(y, fq(x.float()).to(dtype))
    assert torch.equal(fq.quantize(x), fq.quantize(x.float()))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert bool(x.grad.isfinite().all())


@every_kind
def test_moves_to_double(case: Case) -> None:
    x = data(size=0.2)  # what DoReFa clips at 1 lies on a rounding tie
    fq = case.ready(x)
    single = fq(x).detach()
    fq.double()
    x64 = x.double().requires_grad_()
    y = fq(x64)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, fq.dequantize(fq.quantize(x64)), rtol=0, atol=0)
    # all but values on a rounding tie
    assert (y.detach() - single).abs().median() <= 1e-6
    assert ((y - single).abs() > 1e-5 * single.abs().max()).float().mean() <= 0.03
    y.sum().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float64 for p in fq.parameters())


@every
def test_state_dict_round_trip(case: Case) -> None:
    x = data(nonnegative=case.adaptive_sign)
    fq = trained_a_little(case, case.ready(x))
    file = io.BytesIO()
    torch.save(fq.state_dict(), file)
    file.seek(0)
    loaded = case.make().eval()  # without its number of channels
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert loaded.scheme == fq.scheme
    assert torch.equal(loaded(x), fq(x))
    assert torch.equal(loaded.quantize(x), fq.quantize(x))
    trainable = {n for n, p in fq.named_parameters() if p.requires_grad}
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == trainable


@every_kind
def test_deep_copy(case: Case) -> None:
    x = data()
    fq = case.ready(x)
    fq(x.clone().requires_grad_()).sum().backward()
    twin = copy.deepcopy(fq)
    expected = fq(x).detach().clone()
    assert torch.equal(twin(x), expected)
    state = {name: value.clone() for name, value in fq.state_dict().items()}
    trained_a_little(case, twin)
    assert all(torch.equal(value, state[name]) for name, value in fq.state_dict().items())


@every_kind
def test_disabled_passes_through(case: Case) -> None:
    x = data()
    fq = case.ready(x)
    fq.enabled = False
    assert fq(x) is x


def compiled_equals_eager(case: Case, backend: str) -> None:
    torch.compiler.reset()
    x = data(nonnegative=case.adaptive_sign)
    for training in (True, False):
        fq, twin = case.ready(x, training=training), case.ready(x, training=training)
        compiled = torch.compile(twin, backend=backend)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        for _ in range(2):
            expected, got = fq(a), compiled(b)
            if case.algorithm == "lqnet" or (case.algorithm, case.role) == ("dsq", "weight"):
                # eager sums in a pass of its own, for a mean and a deviation or for a fit: last places differ
                torch.testing.assert_close(got, expected, rtol=5e-7, atol=5e-7)
            else:
                assert torch.equal(got, expected)
        expected.square().sum().backward()
        got.square().sum().backward()
        assert a.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(b.grad, a.grad)
        for p, q in zip(fq.parameters(), twin.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None and q.grad is not None:
                torch.testing.assert_close(q.grad, p.grad)
        for one, other in zip(fq.buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(other, one)


@pytest.mark.parametrize("case", covering(few_per_kind(CASES), kinds), ids=str)
def test_compiles(case: Case) -> None:
    compiled_equals_eager(case, "aot_eager")


@pytest.mark.slow
@every_few
def test_compiles_with_inductor(case: Case) -> None:
    compiled_equals_eager(case, "inductor")


# -- training ------------------------------------------------------------------------------------------


@every
def test_every_parameter_learns(case: Case) -> None:
    generator = torch.Generator().manual_seed(1)
    fq = case.ready(data(nonnegative=case.adaptive_sign), training=True)
    spread = 10.0 ** torch.linspace(-1, 3.5, math.prod(SHAPE[1:])).reshape(SHAPE[1:])
    parameters = {name: p for name, p in fq.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    for _ in range(3):
        x = (torch.randn(SHAPE, generator=generator) * spread).requires_grad_()
        loss = (fq(x) * torch.randn(SHAPE, generator=generator)).sum()
        loss.backward()
        assert x.grad is not None
        assert x.grad.count_nonzero() > 0
        for name, p in parameters.items():
            assert p.grad is not None, name
            assert bool(p.grad.isfinite().all()), name
            assert bool((p.grad != 0).all()), name
        step(fq)
    for name, p in parameters.items():
        assert bool((p != before[name]).all()), name


# -- bad input -----------------------------------------------------------------------------------------

DEGENERATE = {
    "zeros": torch.zeros(4, 3),
    "constant": torch.full((4, 3), 2.5),
    "negative constant": torch.full((4, 3), -0.7),
    "dead channel": torch.cat([torch.zeros(1, 3), torch.tensor([[-1.0, 0.3, 2.0]]).expand(3, 3)]),
    "one value a channel": torch.tensor([[-1.0], [0.3], [2.0]]),
    "one value": torch.tensor([[0.3]]),
    "tiny": torch.tensor([[-1e-30, 3e-30, 2e-30]]),
    "huge": torch.tensor([[-1e10, 3e9, 2e9]]),
}


@every_pair
def test_degenerate_data_give_finite_output(case: Case) -> None:
    for name, x in DEGENERATE.items():
        for training in (True, False):
            fq = case.ready(x, training=training)
            leaf = x.clone().requires_grad_()
            y = fq(leaf)
            y.square().sum().backward()
            gradients = [leaf.grad, *(p.grad for p in fq.parameters())]
            assert all(g is None or bool(g.isfinite().all()) for g in gradients), name
            assert bool(y.isfinite().all()), name
            assert bool(fq.dequantize(fq.quantize(x)).isfinite().all()), name


@every_kind
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_data_must_be_finite(case: Case, bad: float) -> None:
    x = data()
    x[1, 2, 0] = bad
    fq = case.make()
    with pytest.raises(CalibrationError, match="finite"):
        fq.initialize(x)


@every_kind
def test_data_must_not_be_empty(case: Case) -> None:
    with pytest.raises(CalibrationError, match="empty"):
        case.make().initialize(torch.zeros(4, 0))


@every_kind
def test_nan_is_not_hidden(case: Case) -> None:
    x = data()
    fq = case.ready(x)
    x[0] = math.nan
    assert bool(fq(x)[0].isnan().all())


@pytest.mark.parametrize("case", [c for c in one_per_kind(CASES) if c.scheme.per_channel], ids=str)
def test_channel_axis_must_exist(case: Case) -> None:
    with pytest.raises(RequestError, match="channel axis 5"):
        case.make(channel_axis=5).initialize(data())


@every_kind
def test_uncalibrated_use_is_refused(case: Case) -> None:
    fq, x = case.make(), data()
    if not fq.needs_calibration:
        assert torch.equal(fq.eval()(x), case.ready(x)(x))
        return
    for use in (fq, fq.quantize):
        with pytest.raises(CalibrationError, match="calibrate"):
            use(x)


@every_kind
def test_no_data_reached_it(case: Case) -> None:
    fq = case.make()
    fq.begin_calibration()
    with pytest.raises(CalibrationError, match="no calibration data"):
        fq.end_calibration()


# -- calibration ---------------------------------------------------------------------------------------

CALIBRATED = {"lsq", "lsq_plus", "lsq_premask", "ptq", "tqt"}
CALIBRATED_ACTIVATION = {"minmax", "dsq", "pact"}


@pytest.mark.parametrize("observer", list(mqbench.observers))
@pytest.mark.parametrize(
    "case",
    [
        case
        for case in one_per_kind(UNIFORM)
        if case.algorithm in CALIBRATED | (CALIBRATED_ACTIVATION if case.role == "activation" else set())
    ],
    ids=str,
)
def test_a_chosen_calibration_is_used(case: Case, observer: str) -> None:
    x = data(3, size=5.0)
    fq = case.make()
    fq.begin_calibration(observer)
    assert fq(x) is x
    fq.end_calibration()
    wanted = mqbench.observers[observer](fq.scheme, channel_axis=fq.channel_axis)
    wanted.observe(x)
    torch.testing.assert_close(fq.scale, wanted.qparams().scale, rtol=1e-6, atol=0)
    assert torch.equal(fq.zero_point, wanted.qparams().zero_point)


@pytest.mark.parametrize("case", [c for c in CASES if c.role == "activation"], ids=str)
def test_calibration_in_batches_equals_that_on_all_data(case: Case) -> None:
    x = data()
    at_once, in_batches = case.make(), case.make()
    for fq, batches in ((at_once, [x]), (in_batches, list(x.split(1)))):
        fq.begin_calibration("minmax")
        for batch in batches:
            fq(batch)
        fq.end_calibration()
    torch.testing.assert_close(in_batches.state_dict(), at_once.state_dict())
