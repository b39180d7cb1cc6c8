"""Quantizers, adds, products and pools of a program as LiteRT's operators."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mqbench.deploy._tflite_float import write_float
from mqbench.deploy._tflite_layers import pad, write_layer
from mqbench.deploy._tflite_moves import write_move
from mqbench.deploy._tflite_writer import HIGH, LOW, code_offset, stored_axis
from mqbench.deploy.program import (
    Add,
    Combination,
    Concat,
    Dequantize,
    Float,
    GlobalPool,
    Layer,
    Move,
    Multiply,
    Operation,
    Pool,
    Quantize,
)
from mqbench.errors import IncompatibleError

if TYPE_CHECKING:
    from mqbench.deploy._tflite_writer import Writer


def write_operation(w: "Writer", op: Operation) -> None:
    """Append what computes an operation.

    Raises:
        IncompatibleError: LiteRT has no form for it.
    """
    if type(op) not in _WRITERS:
        raise IncompatibleError(f"the LiteRT writer has no {op.kind} ({op.name})")
    _WRITERS[type(op)](w, op)


def _quantize(w: "Writer", op: Quantize) -> None:
    grid = w.grid(op.name)
    wanted, reached = (grid.quant_min + code_offset(grid), HIGH), (LOW, HIGH)
    name = w.clipped_into(op.name, wanted, reached)
    w.operator("QUANTIZE", op.inputs, name, "QuantizeOptions")
    w.clip(op.name, name, wanted, reached)


def _dequantize(w: "Writer", op: Dequantize) -> None:
    w.operator("DEQUANTIZE", op.inputs, w.value(op.name), "DequantizeOptions")


def _elementwise(w: "Writer", op: Combination, code: str, options: str) -> None:
    ranks = {len(w.program.values[name].shape) for name in op.inputs}
    if len(ranks) > 1:
        raise IncompatibleError(
            f"the LiteRT writer adds and multiplies tensors of one number of axes; {op.name} has {sorted(ranks)}"
        )
    w.requantized(op, code, op.inputs, options)


def _add(w: "Writer", op: Add) -> None:
    _elementwise(w, op, *(("ADD", "AddOptions") if op.sign > 0 else ("SUB", "SubOptions")))


def _multiply(w: "Writer", op: Multiply) -> None:
    _elementwise(w, op, "MUL", "MulOptions")


def _global_pool(w: "Writer", op: GlobalPool) -> None:
    rank = len(w.program.values[op.inputs[0]].shape)
    if rank != 4:
        raise IncompatibleError(f"the LiteRT writer has global pools of images; {op.name} reads {rank} axes")
    axes = w.integers(f"{op.name}.axes", [1, 2])
    w.requantized(op, "MEAN", [op.inputs[0], axes], "ReducerOptions", fuses=False, keepDims=op.keepdims)


def _pool(w: "Writer", op: Pool) -> None:
    """A depthwise convolution with weights of one: LiteRT's own average pool cannot change the scale."""
    padded = any(op.padding)
    if len(op.kernel) != 2 or op.ceil_mode or (padded and not op.count_include_pad):
        raise IncompatibleError(
            f"the LiteRT writer has average pools of images with windows of one size; {op.name} has ceil_mode or "
            "does not count its padding"
        )
    (name,) = op.inputs
    channels = int(w.program.values[name].shape[1] or 0)
    source = pad(w, name, tuple((n, n) for n in op.padding), f"{op.name}.padded")
    scale = np.float32(1 / math.prod(op.kernel))
    weight = w.constant(
        f"{op.name}.weight", np.ones((1, *op.kernel, channels), dtype=np.int8), w.affine([float(scale)], [0])
    )
    bias = w.constant(
        f"{op.name}.bias",
        np.zeros(channels, dtype=np.int32),
        w.affine([float(scale * np.float32(w.grid(name).scale))], [0]),
    )
    w.requantized(
        op, "DEPTHWISE_CONV_2D", [source, weight, bias], "DepthwiseConv2DOptions",
        padding=w.schema.Padding.VALID, strideH=op.stride[0], strideW=op.stride[1], depthMultiplier=1,
        dilationHFactor=1, dilationWFactor=1,
    )  # fmt: skip


def _concat(w: "Writer", op: Concat) -> None:
    axis = stored_axis(op.axis, len(w.program.values[op.name].shape))
    w.operator("CONCATENATION", op.inputs, w.value(op.name), "ConcatenationOptions", axis=axis)


_WRITERS: dict[type[Operation], Callable[["Writer", Any], None]] = {
    Add: _add,
    Concat: _concat,
    Dequantize: _dequantize,
    Float: write_float,
    GlobalPool: _global_pool,
    Layer: write_layer,
    Move: write_move,
    Multiply: _multiply,
    Pool: _pool,
    Quantize: _quantize,
}
