"""`to_integer`: the exact integer-only network (paper Eq. 2 and 3, SPEC section 11).

Sums are exact (`accumulator`), and what is rounded is rounded as an `Arithmetic` says; the default is the
one of ONNX Runtime, so that every integer equals that engine's. Where the backend leaves tensors in float
(graphs 1 and 2) the sum's real value is handed to a float island.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, fx

from mqbench.deploy import bias as biases
from mqbench.deploy import integer
from mqbench.deploy.accumulator import Accumulator
from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.combinations import COMBINATIONS, fixed_point
from mqbench.deploy.evaluation import Evaluator, quantize
from mqbench.deploy.integer import Requantization
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Combination, Grid, Layer, Operation, Program
from mqbench.errors import RequestError


def to_integer(
    deployed: fx.GraphModule | Program,
    *,
    requantization: str = "float",
    arithmetic: Arithmetic | None = None,
) -> "IntegerNetwork":
    """The exact integer-only network of a converted one.

    Args:
        deployed: from `mqbench.convert`, or a lowered program.
        requantization: ``float`` (multiplier in float32), ``fixed`` (31-bit multiplier, 64-bit product),
            ``shift`` (power-of-two scales only) or ``doubling`` (the two roundings of TensorFlow Lite).
        arithmetic: every rounding rule of an engine; in place of ``requantization``.

    Returns:
        A module; called with float inputs it gives dequantized outputs, and ``values(x)`` the integers of
        every tensor.

    Raises:
        RequestError: a sum can leave int32, a multiplier is no power of two, or it cannot be lowered.

    Warns:
        UserWarning: nearly dead channels, whose bias does not fit into int32, were rescaled.

    >>> import torch, mqbench
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1))
    >>> x = torch.randn(2, 3, 8, 8)
    >>> q = mqbench.prepare(net, x, backend="fbgemm", algorithm="ptq", bits=8)
    >>> mqbench.calibrate(q, [x])
    >>> i = mqbench.to_integer(mqbench.convert(q))
    >>> i(x).shape, i.values(x)["0"].dtype
    (torch.Size([2, 4, 6, 6]), torch.int32)
    """
    if requantization not in list(Requantization):
        allowed = ", ".join(Requantization)
        raise RequestError(f"requantization must be one of {allowed}, got {requantization!r}")
    rules = arithmetic or Arithmetic(requantization=Requantization(requantization))
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    network, rescaled = integer_network(program, rules)
    if rescaled:
        warnings.warn(biases.about(rescaled), stacklevel=2)
    return network


def integer_network(
    program: Program, arithmetic: Arithmetic
) -> "tuple[IntegerNetwork, tuple[biases.Rescaled, ...]]":
    """The same of a program, with the channels that were rescaled for an int32 bias in place of a warning."""
    rescaled: tuple[biases.Rescaled, ...] = ()
    if arithmetic.bias == "int32":
        program, rescaled = biases.fit(program)
    return IntegerNetwork(program, arithmetic), rescaled


class IntegerNetwork(Evaluator):
    """A program computed on integers.

    Args:
        program: the lowered network, its integer biases within int32.
        arithmetic: how it rounds.
    """

    def __init__(self, program: Program, arithmetic: Arithmetic) -> None:
        super().__init__(program)
        self.arithmetic = arithmetic
        self._layers = {layer.name: _IntegerLayer(layer, program, arithmetic) for layer in program.layers()}

    def quantize(self, x: Tensor, grid: Grid) -> Tensor:
        """Float to integers by the engine's rule."""
        return _QUANTIZE[self.arithmetic.quantize](x, grid)

    def combine(self, operation: Operation, inputs: list[Tensor]) -> Tensor:
        """Layers by their exact sums, the others by `combinations`."""
        if isinstance(operation, Layer):
            return self._layers[operation.name](inputs[0])
        assert isinstance(operation, Combination)
        grids = [self._grid(name) for name in operation.inputs]
        grid = self._grid(operation.name)
        return COMBINATIONS[type(operation)](operation, inputs, grids, grid, self.arithmetic)


class _IntegerLayer:
    """One layer: exact sum, bias, requantization and clip; or the sum's real value."""

    def __init__(self, layer: Layer, program: Program, arithmetic: Arithmetic) -> None:
        source = program.grid(layer.inputs[0])
        assert source is not None
        self.layer, self.arithmetic, self.grid = layer, arithmetic, program.grid(layer.name)
        scheme = layer.weight.scheme
        try:
            integer.check_accumulator(layer.weight.terms, scheme.bits, source.scheme.bits)
        except RequestError as error:
            raise RequestError(f"{layer.name}: {error}") from None
        self.accumulate = Accumulator(layer, source)
        self.bias = self._bias(source)
        self.source_scale = source.scale
        self.sum_scale = layer.weight.channel_scale * torch.tensor(source.scale)
        self.multiplier = None if self.grid is None else self._multiplier(source, self.grid)
        biggest = self.accumulate.bound + (0 if self.bias is None else self.bias.double().abs())
        self.exact_in_float = float(biggest.max()) < 2**24

    def _bias(self, source: Grid) -> Tensor | None:
        if self.layer.bias is None:
            return None
        if self.arithmetic.bias == "int32":
            try:
                return biases.integer_bias(self.layer, source)
            except RequestError as error:
                raise RequestError(f"{self.layer.name}: {error}") from None
        return self.layer.bias / (self.layer.weight.channel_scale * torch.tensor(source.scale))

    def _multiplier(self, source: Grid, grid: Grid) -> Tensor:
        weight, s_x, s_y = (
            self.layer.weight.channel_scale,
            torch.tensor(source.scale),
            torch.tensor(grid.scale),
        )
        if self.arithmetic.requantization is not Requantization.FLOAT:
            return weight.double() * s_x.double() / s_y.double()
        if self.arithmetic.multiplier == "ratio":
            return weight * (s_x / s_y)
        if self.arithmetic.multiplier == "exact":
            return (weight.double() * s_x.double() / s_y.double()).float()
        return (s_x * weight) / s_y

    def __call__(self, x: Tensor) -> Tensor:
        acc = self.accumulate(x)
        if self.arithmetic.total == "real":
            return self._by_real_total(acc)
        if self.bias is not None:
            if acc.dtype is torch.float32 and not self.exact_in_float and self.arithmetic.bias == "int32":
                acc = acc.double()
            acc.add_(self._along(self.bias, acc).to(acc))
        if self.grid is None:
            return acc.float().mul_(self._along(self.sum_scale, acc))
        assert self.layer.clip is not None
        assert self.multiplier is not None
        multiplier = self._along(self.multiplier, acc)
        if self.arithmetic.requantization is Requantization.FLOAT:
            steps = acc.float().mul_(multiplier).round_()
            return steps.add_(self.grid.zero_point).clamp_(*self.layer.clip)
        return fixed_point(acc.long(), multiplier, self.grid, self.layer.clip, self.arithmetic.requantization)

    def _by_real_total(self, acc: Tensor) -> Tensor:
        total = acc.float().mul_(torch.tensor(self.source_scale, dtype=torch.float32))
        total.mul_(self._along(self.layer.weight.channel_scale, acc))
        if self.layer.bias is not None:
            total.add_(self._along(self.layer.bias, acc))
        if self.grid is None:
            return total
        assert self.layer.clip is not None
        total.mul_(1 / torch.tensor(self.grid.scale)).add_(self.grid.zero_point)
        return total.round_().clamp_(*self.layer.clip)

    def _along(self, vector: Tensor, acc: Tensor) -> Tensor:
        """A ``[channels]`` vector against the output, whose channels are axis 1, or the last of a linear layer."""
        shape: list[Any] = [1] * acc.dim()
        shape[-1 if self.layer.function == "linear" else 1] = -1
        return vector.to(acc.device).reshape(shape)


def _by_reciprocal(x: Tensor, grid: Grid) -> Tensor:
    steps = torch.mul(x, 1 / torch.tensor(grid.scale)).round_().nan_to_num_(nan=0.0)
    return steps.add_(grid.zero_point).clamp_(grid.quant_min, grid.quant_max)


def _half_away(x: Tensor, grid: Grid) -> Tensor:
    steps = torch.div(x, torch.tensor(grid.scale)).nan_to_num_(nan=0.0)
    whole = steps.trunc()
    steps = whole + torch.sign(steps) * ((steps - whole).abs() >= 0.5)
    return steps.add_(grid.zero_point).clamp_(grid.quant_min, grid.quant_max)


def _by_interval(x: Tensor, grid: Grid) -> Tensor:
    lowest = _CODES[0] if grid.scheme.signed else 0  # of the container, whatever the grid's own range is
    scale, zero = torch.tensor(grid.scale), grid.zero_point
    low, high = scale * (lowest - zero), scale * (lowest + 255 - zero)
    factor, shift = 255 / (high - low), -low * 255 / (high - low)
    steps = (x.double() * factor.double() + shift.double()).float()  # one fused multiply-add
    steps = steps.round_().nan_to_num_(nan=0.0).add_(lowest)
    return steps.clamp_(grid.quant_min, grid.quant_max)


_CODES = (-128, 127)
_QUANTIZE = {"division": quantize, "reciprocal": _by_reciprocal, "away": _half_away, "interval": _by_interval}
