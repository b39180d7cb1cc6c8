"""The integer bias of a layer, and channels whose bias leaves int32 (nearly dead ones)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mqbench.deploy.integer import INT32_MAX, quantize_bias
from mqbench.deploy.program import Grid, Layer, Operation, Program, Weight

HEADROOM = 2.0**29


@dataclass(frozen=True, kw_only=True)
class Rescaled:
    """Channels of a layer whose weight scale was raised so that the bias fits into int32."""

    layer: str
    channels: tuple[int, ...]


def integer_bias(layer: Layer, grid: Grid) -> Tensor | None:
    """The int32 bias rint(b / (s_w s_x)), ``[channels]``; ``grid`` is the input's.

    Raises:
        RequestError: it does not fit.
    """
    if layer.bias is None:
        return None
    return quantize_bias(layer.bias, layer.weight.channel_scale, torch.tensor(grid.scale))


def sum_bound(layer: Layer, grid: Grid) -> Tensor:
    """Largest absolute value that the sum of products of each channel can reach, float64 ``[channels]``."""
    reach = max(grid.quant_max - grid.zero_point, grid.zero_point - grid.quant_min)
    return layer.weight.centred().double().abs().flatten(1).sum(1) * reach


def overflowing(layer: Layer, grid: Grid) -> list[int]:
    """Channels whose bias and sum together can leave int32."""
    if layer.bias is None:
        return []
    steps = layer.bias.double().abs() / (layer.weight.channel_scale.double() * grid.scale)
    return [int(c) for c in torch.nonzero(steps + sum_bound(layer, grid) > INT32_MAX).flatten()]


def fit(program: Program) -> tuple[Program, tuple[Rescaled, ...]]:
    """Raise the weight scale of channels whose bias leaves int32: s_w = |b| / (s_x 2^29).

    Such a channel's weights are so small that its output is the bias and little else; with the larger
    scale its weights lose low bits that never reached the output. A program without such channels is
    returned as it is.
    """
    rescaled = list(_rescaled(program))
    if not rescaled:
        return program, ()
    replaced = {layer.name: layer for layer, _ in rescaled}
    operations: Sequence[Operation] = [replaced.get(op.name, op) for op in program.operations]
    return replace(program, operations=tuple(operations)), tuple(found for _, found in rescaled)


def _rescaled(program: Program) -> Iterator[tuple[Layer, Rescaled]]:
    for layer in program.layers():
        grid = program.grid(layer.inputs[0])
        assert grid is not None
        channels = overflowing(layer, grid)
        if channels:
            weight = _raise_scale(layer, grid, channels)
            yield replace(layer, weight=weight), Rescaled(layer=layer.name, channels=tuple(channels))


def _raise_scale(layer: Layer, grid: Grid, channels: list[int]) -> Weight:
    weight, bias = layer.weight, layer.bias
    assert bias is not None
    needed = bias.double().abs() / (grid.scale * HEADROOM)
    scale = weight.channel_scale.double().clone()
    if weight.scale.dim() == 0:
        scale = torch.maximum(scale, needed.max())
    else:
        scale[channels] = torch.maximum(scale[channels], needed[channels])
    if weight.scheme.power_of_two:
        scale = torch.exp2(torch.ceil(torch.log2(scale)))
    scale = scale.float()
    ratio = weight.channel_scale.double() / scale.double()
    shape = [-1] + [1] * (weight.integers.dim() - 1)
    zero_point = weight.channel_zero_point.reshape(shape)
    integers = torch.round(weight.centred().double() * ratio.reshape(shape)) + zero_point
    return replace(
        weight,
        integers=integers.to(weight.integers.dtype),
        scale=scale[0] if weight.scale.dim() == 0 else scale,
    )


def about(rescaled: Sequence[Rescaled]) -> str:
    """One sentence for warnings and certificates."""
    count = sum(len(found.channels) for found in rescaled)
    names = ", ".join(found.layer for found in rescaled[:3]) + (", ..." if len(rescaled) > 3 else "")
    return (
        f"{count} nearly dead channels ({names}) have a bias beyond int32; their weight scale was raised to "
        f"|b| / (s_x 2^{int(math.log2(HEADROOM))})"
    )
