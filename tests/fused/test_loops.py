"""The fused loop of every elementwise definition against its plain torch form: values to the bit, sums to rounding."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mqbench.algorithms import _clipping, dsq, lsq
from mqbench.functional import STRAIGHT_THROUGH, Incoming, apply
from mqbench.fused import elementwise, norm, vectors
from mqbench.fused.activation import Clip
from mqbench.fused.build import compiler
from mqbench.fused.definition import Affine, Before
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.near import middle_tanh, near_tanh

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")

CHANNELS = 3
GRID = (-8, 7)


def values(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scale(channels: bool, dtype: torch.dtype) -> Tensor:
    return torch.tensor([0.31, 0.17, 0.23], dtype=dtype) if channels else torch.tensor(0.31, dtype=dtype)


def parameters(definition: Elementwise, channels: bool, zero_point: bool, dtype: torch.dtype) -> list[Any]:
    s = scale(channels, dtype)
    z = torch.round(4 * s - 2) if zero_point else None
    if definition is _clipping.CLIPPED:
        return [-6 * s, 5 * s, s, z]
    if definition in LEARNED:
        s, z = -s, None if z is None else 4 * s - 2.3
    return [s, z, s.double()] if definition is dsq.SOFT_STAIRCASE else [s, z]


LEARNED = [lsq.MASKED_AFTER.learned, lsq.MASKED_BEFORE.learned]
DEFINITIONS = {
    "lsq_learned": lsq.MASKED_AFTER.learned,
    "lsq_premask_learned": lsq.MASKED_BEFORE.learned,
    "straight_through": STRAIGHT_THROUGH,
    "lsq": lsq.AFTER_ROUNDING,
    "lsq_premask": lsq.BEFORE_ROUNDING,
    "dsq": dsq.SOFT_STAIRCASE,
    "clipped": _clipping.CLIPPED,
}


def scalars(definition: Elementwise) -> tuple[float, ...]:
    return (*GRID, 0.07) if definition in LEARNED else GRID


def both(
    monkeypatch: pytest.MonkeyPatch, definition: Elementwise, x: Tensor, *arguments: Any, **options: Any
) -> tuple[list[Any], list[Any]]:
    """Everything forward and backward give, fused and plain."""
    found = []
    gradient = values(*x.shape, seed=1, dtype=x.dtype)
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(elementwise, "takes", lambda _: False)
        y = definition.forward(x, *arguments, **options)
        dx, ahead, totals = definition.backward(gradient, x, *arguments, **options)
        found.append([y, dx, *ahead, *(t for t in totals if t is not None)])
    return found[0], found[1]


def agree(fused: list[Tensor], plain: list[Tensor], exact: bool = True) -> None:
    assert len(fused) == len(plain) >= 2
    for got, want in zip(fused[:2], plain[:2], strict=True):
        assert torch.equal(got, want) if exact else torch.allclose(got, want, rtol=1e-5, atol=1e-6)
    for got, want in zip(fused[2:], plain[2:], strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("zero_point", [False, True])
@pytest.mark.parametrize("clip", [None, Clip(0.0), Clip(0.0, 1.0)])
@pytest.mark.parametrize("channels", [False, True])
def test_fused_is_plain(
    monkeypatch: pytest.MonkeyPatch, name: str, zero_point: bool, clip: Clip | None, channels: bool
) -> None:
    definition = DEFINITIONS[name]
    x = values(CHANNELS, 5, 1200)  # more than one block
    x[0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    given = parameters(definition, channels, zero_point, x.dtype)
    fused, plain = both(
        monkeypatch, definition, x, given, scalars(definition), axis=0, before=Before(clip=clip)
    )
    assert bool(fused[0][0, 0, 0].isnan())
    fused, plain = ([r[0].nan_to_num(), r[1].nan_to_num()] for r in (fused, plain))
    agree(fused, plain, exact=name != "dsq")
    monkeypatch.undo()
    agree(
        *both(
            monkeypatch,
            definition,
            x.nan_to_num(0.1, 3, -3),
            given,
            scalars(definition),
            axis=0,
            before=Before(clip=clip),
        ),
        exact=name != "dsq",
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_channel_axis(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, axis: int) -> None:
    shape = [4, 5, 6]
    shape[axis] = CHANNELS
    x = values(*shape, dtype=dtype)
    agree(
        *both(
            monkeypatch,
            lsq.AFTER_ROUNDING,
            x,
            parameters(lsq.AFTER_ROUNDING, True, True, dtype),
            GRID,
            axis=axis,
        )
    )


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("name", "shape", "through"),
    [
        ("lsq", (40, 3, 18, 19), False),
        ("clipped", (40, 3, 18, 19), True),
        ("lsq", (400, 5, 3, 3), True),  # many short rows
        ("lsq", (40, 16, 8, 8), False),
        ("clipped", (300, 85, 2, 2), False),  # as many channels as are summed at a time, and more
    ],
)
def test_behind_an_affine(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    shape: tuple[int, ...],
    through: bool,
    order: torch.memory_format,
) -> None:
    x, definition = values(*shape).to(memory_format=order), DEFINITIONS[name]
    channels = shape[1]
    affine = Affine(*(values(channels, seed=s) for s in (2, 3, 4)))
    given = parameters(definition, False, True, x.dtype)
    before = Before(affine, Clip(0.0), through=through)
    fused, plain = both(monkeypatch, definition, x, given, scalars(definition), before=before)
    agree(fused, plain)
    assert fused[2].shape == fused[3].shape == (channels,)
    assert fused[0].is_contiguous(memory_format=order)
    assert fused[1].is_contiguous(memory_format=order)


@pytest.mark.parametrize("shape", [(7, CHANNELS), (9, CHANNELS, 1, 1), (3, CHANNELS, 2, 2, 2)])
def test_channels_innermost(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    x = values(*shape)
    if len(shape) == 5:
        x = x.to(memory_format=torch.channels_last_3d)
    given = parameters(lsq.AFTER_ROUNDING, True, True, x.dtype)
    agree(*both(monkeypatch, lsq.AFTER_ROUNDING, x, given, GRID, axis=1))


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("channels", [False, True])
def test_behind_a_gain(monkeypatch: pytest.MonkeyPatch, name: str, channels: bool) -> None:
    x, definition = values(CHANNELS, 8, 700), DEFINITIONS[name]
    given = parameters(definition, channels, True, x.dtype)
    before = Before(gain=values(CHANNELS, seed=2))
    fused, plain = both(monkeypatch, definition, x, given, scalars(definition), axis=0, before=before)
    agree(fused, plain, exact=name != "dsq")
    assert fused[2].shape == (CHANNELS,)


def test_a_gain_gives_what_autograd_gives_for_the_product() -> None:
    x, gain = values(CHANNELS, 8, 70).requires_grad_(), values(CHANNELS, seed=2).requires_grad_()
    scales = torch.tensor([0.31, 0.17, 0.23]).requires_grad_()
    gradient, found = values(*x.shape, seed=1), []
    for entering in (Incoming(x, gain=gain), Incoming(x * gain.reshape(-1, 1, 1))):
        y = apply(lsq.AFTER_ROUNDING, entering, (scales, None), GRID, axis=0)
        found.append([y, *torch.autograd.grad(y, [x, gain, scales], gradient)])
    assert torch.equal(found[0][0], found[1][0])
    for got, want in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_memory_order_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x = values(2, CHANNELS, 4, 5).to(memory_format=torch.channels_last)
    given = parameters(lsq.AFTER_ROUNDING, False, False, x.dtype)
    fused, plain = both(monkeypatch, lsq.AFTER_ROUNDING, x, given, GRID)
    agree(fused, plain)
    assert fused[0].is_contiguous(memory_format=torch.channels_last)
    monkeypatch.undo()
    agree(*both(monkeypatch, lsq.AFTER_ROUNDING, values(6, 8)[:, ::2], given, GRID))  # strided
    monkeypatch.undo()
    agree(*both(monkeypatch, lsq.AFTER_ROUNDING, values(0, 8), given, GRID))  # empty


@pytest.mark.parametrize(("channels", "axis"), [(False, None), (True, 1)])
def test_sums_do_not_depend_on_threads(channels: bool, axis: int | None) -> None:
    x, gradient = values(85000, CHANNELS), values(85000, CHANNELS, seed=1)
    given = parameters(lsq.AFTER_ROUNDING, channels, True, x.dtype)
    before = torch.get_num_threads()
    sums = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sums.append(lsq.AFTER_ROUNDING.backward(gradient, x, given, GRID, axis=axis)[2])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*sums, strict=True))


def test_tanh_is_exact_to_the_last_places() -> None:
    """The vectorised float32 tanh, over its whole range, through DSQ's slope: one definition per exponent."""
    once = Elementwise(torch.tanh, lambda g, x: (g,), parameters=0, scalars=0)
    x = torch.cat([sign * torch.logspace(-20, 2, 20001, base=2) for sign in (1, -1)])
    want = torch.tanh(x.double())
    got = once.forward(x, (), ())
    assert ((got.double() - want).abs() <= 2 * torch.finfo(torch.float32).eps * want.abs()).all()
    edge = once.forward(torch.tensor([0.0, torch.inf, -torch.inf, torch.nan]), (), ())
    assert edge[:3].tolist() == [0.0, 1.0, -1.0]
    assert bool(edge[3].isnan())


@pytest.mark.parametrize(("tanh", "most"), [(near_tanh, 0.7), (middle_tanh, 2.0)])
def test_shorter_tanhs_are_exact_up_to_their_ends(tanh: Callable[[Tensor], Tensor], most: float) -> None:
    short = Elementwise(tanh, lambda g, x: (g,), parameters=0, scalars=0)
    x = torch.cat([torch.linspace(-most, most, 200_001), torch.logspace(-30, 0, 1000, base=2) * most])
    want = torch.tanh(x.double())
    error = (short.forward(x, (), ()).double() - want).abs()
    assert bool((error <= 2.5 * torch.finfo(torch.float32).eps * want.abs()).all())


def test_every_combination_was_compiled() -> None:
    """Fallbacks are silent inside a process after the first; here nothing may fall back."""
    x = values(8)
    for definition, zero in itertools.product(DEFINITIONS.values(), (False, True)):
        definition.forward(x, parameters(definition, False, zero, x.dtype), scalars(definition))
        for loop in definition._loops.values():
            assert all(run is not None for run in loop._compiled.values())


def test_a_step_size_in_the_pass_is_one_that_was_made_scale_before() -> None:
    x, gradient = values(CHANNELS, 50), values(CHANNELS, 50, seed=1)
    step, offset = torch.tensor([-0.31, 1e-9, 0.23]), torch.tensor([-2.4, 0.6, 99.0])
    scale, zero_point = step.abs().clamp_min(2.0**-23), torch.round(offset.clamp(*GRID))
    learned, deployed = lsq.MASKED_AFTER.learned, lsq.MASKED_AFTER.deployed
    assert torch.equal(
        learned.forward(x, (step, offset), (*GRID, 0.5), axis=0),
        deployed.forward(x, (scale, zero_point), GRID, axis=0),
    )
    dx, _, (ds, dz) = learned.backward(gradient, x, (step, offset), (*GRID, 0.5), axis=0)
    want_dx, _, (want_ds, want_dz) = deployed.backward(gradient, x, (scale, zero_point), GRID, axis=0)
    assert torch.equal(dx, want_dx)
    assert want_ds is not None
    assert want_dz is not None
    torch.testing.assert_close(ds, want_ds * step.sign() * 0.5)
    torch.testing.assert_close(dz, want_dz * 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("divisor", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_vectors_are_plain_torch(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, divisor: bool, bias: bool
) -> None:
    gamma, mean, variance, first, second = (values(CHANNELS, seed=s, dtype=dtype) for s in range(5))
    given = (
        gamma,
        mean,
        variance,
        gamma if divisor else None,
        first if bias else None,
        mean,
        first,
        second.exp(),
    )
    found = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(vectors, "takes", lambda _: False)
        running = mean.clone(), variance.clone()
        results = norm._BEGIN(given, (7.0, 1e-5, 0.1, 7 / 6), out=running)
        assert results[0] is running[0]
        found.append([*results, *norm._END((given[3], *given[:3], first), (7.0, 1e-5))])
    assert (found[0][-1] is None) is (not divisor)
    for got, want in zip(*found, strict=True):
        assert (got is None) is (want is None)
        if got is not None:
            torch.testing.assert_close(got, want)


def test_vectors_of_another_type_are_written_as_what_they_are() -> None:
    gamma, first, second = (values(CHANNELS, seed=s, dtype=torch.float64) for s in range(3))
    given = gamma, *(torch.zeros(CHANNELS) for _ in range(2)), None, None, gamma, first, second.exp()
    running = torch.zeros(CHANNELS + 4)[:CHANNELS], torch.zeros(CHANNELS)
    results = norm._BEGIN(given, (7.0, 1e-5, 1.0, 1.0), out=running)
    assert results[0] is running[0]
    torch.testing.assert_close(running[0], (gamma + first / 7).float())
