"""The integer network against SPEC section 11, operation by operation, and its refusals."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import mqbench
from deployed import NETWORKS, SETTINGS, WHOLE, converted
from mqbench.deploy import integer
from mqbench.deploy.accumulator import Accumulator
from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.bias import fit, overflowing
from mqbench.deploy.integer import Requantization
from mqbench.deploy.lowering import lower
from mqbench.deploy.network import IntegerNetwork
from mqbench.deploy.program import Add, GlobalPool, Grid, Layer, Program, Weight
from mqbench.deploy.simulation import Simulation
from mqbench.errors import RequestError
from mqbench.scheme import QuantScheme
from networks import images

FUNCTIONS: dict[str, Any] = {"conv1d": F.conv1d, "conv2d": F.conv2d, "linear": F.linear}


def accumulator_of(layer: Layer, grid: Grid, x: torch.Tensor) -> torch.Tensor:
    """The sum of Eq. 2, by the expanded reference."""
    options: dict[str, Any] = {}
    if layer.function != "linear":
        flat = [n for pair in reversed(layer.padding) for n in pair]
        x = F.pad(x, flat, value=grid.zero_point)
        options = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
    bias = None
    if layer.bias is not None:
        bias = integer.quantize_bias(layer.bias, layer.weight.channel_scale, torch.tensor(grid.scale))
    return integer.accumulate(
        FUNCTIONS[layer.function],
        x,
        layer.weight.integers.to(torch.int32),
        x_zero_point=torch.tensor(grid.zero_point),
        weight_zero_point=layer.weight.zero_point,
        bias=bias,
        **options,
    )


def steps_of(program: Program, values: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every requantizing operation computed by section 11's formulas, in float64, from its inputs' integers."""
    for op in program.operations:
        grid = program.grid(op.name)
        if grid is None or not isinstance(op, (Layer, Add, GlobalPool)):
            continue
        sources = [program.grid(name) for name in op.inputs]
        first = sources[0]
        assert first is not None
        assert op.clip is not None
        low, high = op.clip
        if isinstance(op, Layer):
            acc = accumulator_of(op, first, values[op.inputs[0]])
            along = [1, -1] + [1] * (acc.dim() - 2)
            multiplier = (op.weight.channel_scale.double() * first.scale / grid.scale).reshape(along)
            steps = torch.round(acc.double() * multiplier)
        elif isinstance(op, GlobalPool):
            x = values[op.inputs[0]]
            total = (x.long() - first.zero_point).sum(tuple(range(2, x.dim())), keepdim=op.keepdims)
            steps = torch.round(total.double() * first.scale / (math.prod(x.shape[2:]) * grid.scale))
        else:
            second = sources[1]
            assert second is not None
            terms = (
                (values[n].double() - g.zero_point) * g.scale
                for n, g in zip(op.inputs, (first, second), strict=True)
            )
            steps = torch.round(sum(terms, torch.zeros(())) / grid.scale)
        yield op.name, (steps + grid.zero_point).clamp(low, high).to(torch.int32)


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("backend", WHOLE)
@pytest.mark.parametrize("network", ["basic", "inverted", "padded"])
def test_every_operation_is_section_11(network: str, backend: str, bits: int) -> None:
    program = lower(converted(network, backend, bits))
    x = images(5, seed=3)
    float_mode = IntegerNetwork(program, Arithmetic())
    fixed = IntegerNetwork(program, Arithmetic(requantization=Requantization.FIXED))
    values = float_mode.values(x)
    fixed_values = fixed.local(values, x)
    checked = 0
    for name, want in steps_of(program, values):
        checked += 1
        difference = (values[name] - want).abs()
        assert int(difference.max()) <= 1
        assert float((difference == 0).double().mean()) > 0.995, name
        assert int((fixed_values[name] - want).abs().max()) <= 1
    assert checked >= 3


@pytest.mark.parametrize("network", ["basic", "inverted"])
def test_power_of_two_shifts_equal_the_float_multiplier(network: str) -> None:
    d = converted(network, "tvm")
    x = images(5, seed=3)
    shift = mqbench.to_integer(d, requantization="shift")
    fixed = mqbench.to_integer(d, requantization="fixed")
    values = mqbench.to_integer(d).values(x)
    for other in (shift, fixed):
        found = other.local(values, x)
        pools = [op.name for op in lower(d).operations if isinstance(op, GlobalPool)]
        exact = [name for name in values if name in found and name not in pools]
        assert all(torch.equal(found[name], values[name]) for name in exact)


@pytest.mark.parametrize("backend", SETTINGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_integers_follow_the_simulation_of_rounded_biases(network: str, backend: str) -> None:
    """What an int32 bias costs is rounding alone: with it, both agree but for float ties."""
    program = lower(converted(network, backend, 4))
    x = images(5, seed=3)
    integers = IntegerNetwork(program, Arithmetic())
    values = integers.values(x)
    found = Simulation(program, integer_bias=True).local(values, x)
    different = sum(int((found[n] != values[n]).sum()) for n in found if n in program.integer_values())
    total = sum(values[n].numel() for n in program.integer_values())
    assert different <= 1e-3 * total


@given(
    st.integers(0, 2**32),
    st.sampled_from([(1, 8, 8), (300, 8, 8), (2000, 8, 8), (40, 8, 12)]),
    st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_sums_are_exact_by_every_method(seed: int, case: tuple[int, int, int], asymmetric: bool) -> None:
    terms, weight_bits, bits = case
    generator = torch.Generator().manual_seed(seed)
    scheme = QuantScheme(bits=weight_bits, symmetric=not asymmetric)
    integers = torch.randint(scheme.quant_min, scheme.quant_max + 1, (4, terms), generator=generator)
    zero = torch.randint(-100, 100, (4,), generator=generator, dtype=torch.int32) * asymmetric
    grid_scheme = QuantScheme(bits=bits, symmetric=False)
    grid = Grid(
        scale=0.1, zero_point=grid_scheme.quant_min // 2, quant_min=grid_scheme.quant_min,
        quant_max=grid_scheme.quant_max, scheme=grid_scheme,
    )  # fmt: skip
    weight = Weight(integers=integers.to(torch.int8), scale=torch.ones(4), zero_point=zero, scheme=scheme)
    layer = Layer(name="fc", inputs=("x",), function="linear", weight=weight, bias=None)
    x = torch.randint(grid.quant_min, grid.quant_max + 1, (3, terms), generator=generator)
    found = Accumulator(layer, grid)(x.float())
    want = (x - grid.zero_point) @ (integers.long() - zero[:, None].long()).T
    assert torch.equal(found.long(), want)


def test_the_method_follows_from_the_weights() -> None:
    grid = Grid(scale=0.1, zero_point=-128, quant_min=-128, quant_max=127, scheme=QuantScheme(bits=8))

    def method(size: int, terms: int) -> str:
        weight = Weight(
            integers=torch.full((1, terms), size, dtype=torch.int32), scale=torch.ones(()),
            zero_point=torch.zeros((), dtype=torch.int32), scheme=QuantScheme(bits=16),
        )  # fmt: skip
        return Accumulator(
            Layer(name="fc", inputs=("x",), function="linear", weight=weight, bias=None), grid
        ).method

    assert method(127, 500) == "float32"  # 500 x 127 x 255 < 2^24
    assert method(127, 600) == "split"
    assert method(32767, 600) == "float64"


def test_lower_matmul_precision_does_not_reach_the_sums() -> None:
    d = converted("basic", "fbgemm")
    i = mqbench.to_integer(d)
    want = i.values(images())
    torch.set_float32_matmul_precision("medium")
    try:
        found = i.values(images())
    finally:
        torch.set_float32_matmul_precision("highest")
    assert all(torch.equal(found[name], want[name]) for name in want)


def test_sixteen_bits_overflow_and_are_refused() -> None:
    with pytest.raises(RequestError, match="can overflow a 32-bit accumulator"):
        mqbench.to_integer(converted("basic", "fbgemm", (8, 16), first_last_bits=16))


def test_a_shift_needs_power_of_two_scales() -> None:
    with pytest.raises(RequestError, match="powers of two"):
        mqbench.to_integer(converted("basic", "fbgemm"), requantization="shift")(images())
    with pytest.raises(RequestError, match="one of float, fixed, shift, doubling, got 'int'"):
        mqbench.to_integer(converted("basic", "fbgemm"), requantization="int")


def with_dead_channel(backend: str) -> Program:
    """The first layer's channel 1 has hardly any weights left, and a bias as before."""
    program = lower(converted("basic", backend))
    first = next(program.layers())
    scale = first.weight.channel_scale.clone()
    scale[1] = 2.0**-60
    assert first.bias is not None
    bias = first.bias.clone()
    bias[1] = 3.0
    dead = replace(first, weight=replace(first.weight, scale=scale), bias=bias)
    operations = tuple(dead if op is first else op for op in program.operations)
    return replace(program, operations=operations)


def test_dead_channels_are_rescaled_and_named() -> None:
    program = with_dead_channel("fbgemm")
    first = next(program.layers())
    grid = program.grid(first.inputs[0])
    assert grid is not None
    assert overflowing(first, grid) == [1]
    fitted, rescaled = fit(program)
    assert [(found.layer, found.channels) for found in rescaled] == [(first.name, (1,))]
    assert overflowing(next(fitted.layers()), grid) == []
    with pytest.warns(UserWarning, match=r"1 nearly dead channels \(stem\.0\) have a bias beyond int32"):
        i = mqbench.to_integer(program)
    values, simulated = i.values(images()), Simulation(program).values(images())
    assert int((values["stem.0"] - simulated["stem.0"]).abs().max()) <= 1
    untouched, none = fit(fitted)
    assert untouched is fitted
    assert none == ()
