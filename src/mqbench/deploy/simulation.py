"""The deployed simulation of a program: dequantized tensors, float32 arithmetic, fake quantization."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mqbench.deploy import bias as biases
from mqbench.deploy.evaluation import Evaluator, dequantize, quantize
from mqbench.deploy.program import (
    Add,
    Combination,
    GlobalPool,
    Layer,
    MatMul,
    Multiply,
    Operation,
    Pads,
    Pool,
    Program,
)

_CONVOLUTIONS: dict[str, Callable[..., Tensor]] = {"conv1d": F.conv1d, "conv2d": F.conv2d, "conv3d": F.conv3d}
_POOLS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class Simulation(Evaluator):
    """What `mqbench.convert` gives, computed from the program alone: equal up to float rounding.

    Args:
        program: the lowered network.
        integer_bias: round each bias to a multiple of s_w s_x, as engines with an int32 bias do; what is
            left of the difference to an engine is then float rounding alone.
    """

    def __init__(self, program: Program, *, integer_bias: bool = False) -> None:
        super().__init__(program)
        self._weights = {layer.name: layer.weight.dequantize() for layer in program.layers()}
        self._biases = {
            layer.name: self._rounded(layer) if integer_bias else layer.bias for layer in program.layers()
        }

    def _rounded(self, layer: Layer) -> Tensor | None:
        grid = self._grid(layer.inputs[0])
        integers = biases.integer_bias(layer, grid)
        return (
            None
            if integers is None
            else (integers * layer.weight.channel_scale.double() * grid.scale).float()
        )

    def combine(self, operation: Operation, inputs: list[Tensor]) -> Tensor:
        """The float operation on real values, then clip and quantization."""
        real = [dequantize(x, self._grid(n)) for x, n in zip(inputs, operation.inputs, strict=True)]
        if isinstance(operation, Layer):
            weight = self._weights[operation.name].to(real[0].device)
            out = apply_layer(operation, real[0], weight, self._biases[operation.name])
        else:
            assert isinstance(operation, Combination)
            out = _COMBINATIONS[type(operation)](operation, *real)
        grid = self.program.grid(operation.name)
        if grid is None:
            return out
        assert isinstance(operation, (Layer, Combination))
        return quantize(out.clamp_(*operation.bounds), grid)


def apply_layer(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The layer's operation with any weight and bias; padding is with zero."""
    bias = None if bias is None else bias.to(x)
    if layer.function == "linear":
        return F.linear(x, weight, bias)
    x, padding = padded(x, layer.padding)
    return _CONVOLUTIONS[layer.function](
        x, weight, bias, stride=layer.stride, padding=padding, dilation=layer.dilation, groups=layer.groups
    )


def padded(x: Tensor, pads: Pads) -> tuple[Tensor, tuple[int, ...]]:
    """A tensor padded with zero, as far as a convolution cannot do it by itself, and what is left to it."""
    if all(before == after for before, after in pads):
        return x, tuple(before for before, _ in pads)
    flat = [n for pair in reversed(pads) for n in pair]
    return F.pad(x, flat), (0,) * len(pads)


def average_pool(pool: Pool, x: Tensor, divisor: int | None = None) -> Tensor:
    """Averages over the windows; with ``divisor`` 1 their sums."""
    options: dict[str, Any] = {} if divisor is None else {"divisor_override": divisor}
    return _POOLS[len(pool.kernel)](
        x,
        pool.kernel,
        pool.stride,
        pool.padding,
        ceil_mode=pool.ceil_mode,
        count_include_pad=pool.count_include_pad,
        **options,
    )


def _global_pool(pool: GlobalPool, x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=pool.keepdims)


_COMBINATIONS: dict[type[Combination], Callable[..., Tensor]] = {
    Add: lambda op, a, b: a + b if op.sign > 0 else a - b,
    GlobalPool: _global_pool,
    MatMul: lambda _, a, b: torch.matmul(a, b),
    Multiply: lambda _, a, b: a * b,
    Pool: average_pool,
}
