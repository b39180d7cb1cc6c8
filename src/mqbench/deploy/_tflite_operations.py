"""Layers, adds, products and pools of a program as LiteRT's operators."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mqbench.deploy._tflite_moves import write_move
from mqbench.deploy._tflite_writer import HIGH, LOW, array, code_offset, stored_axis, symmetric_weight
from mqbench.deploy.bias import integer_bias
from mqbench.deploy.program import (
    Add,
    Combination,
    Concat,
    Dequantize,
    GlobalPool,
    Layer,
    Move,
    Multiply,
    Operation,
    Pads,
    Pool,
    Quantize,
)
from mqbench.errors import IncompatibleError

if TYPE_CHECKING:
    from mqbench.deploy._tflite_writer import Writer


def write_operation(w: "Writer", op: Operation) -> None:
    """Append what computes an operation.

    Raises:
        IncompatibleError: LiteRT's integer kernels do not cover it.
    """
    if type(op) not in _WRITERS:
        raise IncompatibleError(
            f"the LiteRT writer is all-integer and has no {op.kind} ({op.name}); it takes graph 3, and no functions "
            "that stay in float"
        )
    _WRITERS[type(op)](w, op)


def _quantize(w: "Writer", op: Quantize) -> None:
    grid = w.grid(op.name)
    wanted, reached = (grid.quant_min + code_offset(grid), HIGH), (LOW, HIGH)
    name = w.clipped_into(op.name, wanted, reached)
    w.operator("QUANTIZE", op.inputs, name, "QuantizeOptions")
    w.clip(op.name, name, wanted, reached)


def _dequantize(w: "Writer", op: Dequantize) -> None:
    w.operator("DEQUANTIZE", op.inputs, w.value(op.name), "DequantizeOptions")


# -- layers ---------------------------------------------------------------------------------------------


def _layer(w: "Writer", op: Layer) -> None:
    if op.function not in ("conv2d", "linear"):
        raise IncompatibleError(f"the LiteRT writer has conv2d and linear; {op.name} is {op.function}")
    if op.function == "conv2d":
        _convolution(w, op)
    else:
        _linear(w, op)


def _linear(w: "Writer", op: Layer) -> None:
    rank = len(w.program.values[op.name].shape)
    if rank > 3:
        raise IncompatibleError(f"the LiteRT writer has linear layers of 2 and 3 axes; {op.name} has {rank}")
    if w.program.grid(op.name) is None:
        _linear_sums(w, op)
        return
    inputs = [op.inputs[0], *_parameters(w, op, symmetric_weight(op), 0)]
    w.requantized(op, "FULLY_CONNECTED", inputs, "FullyConnectedOptions", keepNumDims=rank > 2)


def _convolution(w: "Writer", op: Layer) -> None:
    kernel = op.weight.integers.shape[2:]
    source, same = _padded(w, op, kernel)
    code, options = "CONV_2D", "Conv2DOptions"
    order, axis = (0, 2, 3, 1), 0
    fields: dict[str, Any] = {
        "padding": w.schema.Padding.SAME if same else w.schema.Padding.VALID,
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
    }
    if op.groups > 1 and op.weight.integers.shape[1] == 1:
        code, options = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
        order, axis = (1, 2, 3, 0), 3
        fields["depthMultiplier"] = op.weight.channels // op.groups
    if w.program.grid(op.name) is None:
        inputs = [_dequantized(w, op, source), *_real_parameters(w, op, order)]
        w.operator(code, inputs, w.value(op.name), options, **fields)
    else:
        inputs = [source, *_parameters(w, op, symmetric_weight(op).transpose(order), axis)]
        w.requantized(op, code, inputs, options, **fields)


def _dequantized(w: "Writer", op: Layer, source: str) -> str:
    """In front of a convolution without a quantizer behind it: LiteRT's convolutions give no sums, so it is float."""
    called = w.declare(f"{op.name}.dequantized", w.shapes[source])
    w.operator("DEQUANTIZE", [source], called, "DequantizeOptions")
    return called


def _real_parameters(w: "Writer", op: Layer, order: Sequence[int]) -> tuple[str, str]:
    bias = torch.zeros(op.weight.channels) if op.bias is None else op.bias.float()
    weight = array(op.weight.dequantize().float()).transpose(order)
    return w.constant(f"{op.name}.weight", weight), w.constant(f"{op.name}.bias", array(bias))


def _parameters(w: "Writer", op: Layer, weight: Any, axis: int) -> tuple[str, str]:
    """The constants of a layer: int8 weight, int32 bias with scale s_x s_w."""
    source = w.grid(op.inputs[0])
    scale = op.weight.scale.reshape(-1)
    bias = integer_bias(op, source)
    if bias is None:
        bias = torch.zeros(op.weight.channels, dtype=torch.int32)
    zeros = [0] * len(scale)
    product = array(scale * torch.tensor(source.scale)).tolist()
    return (
        w.constant(f"{op.name}.weight", weight, w.affine(scale.tolist(), zeros, axis)),
        w.constant(f"{op.name}.bias", array(bias), w.affine(product, zeros, 0)),
    )


def _padded(w: "Writer", op: Layer, kernel: Sequence[int]) -> tuple[str, bool]:
    """The tensor that a convolution reads, and whether it pads by itself as SAME does."""
    (name,) = op.inputs
    sizes = [int(n or 0) for n in w.program.values[name].shape[2:]]
    if op.padding == tuple(_same(*axis) for axis in zip(sizes, kernel, op.stride, op.dilation, strict=True)):
        return name, True
    return pad(w, name, op.padding, f"{op.name}.padded"), False


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) of TensorFlow's SAME padding: the smaller half in front."""
    reach = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1
    total = max(reach - size, 0)
    return total // 2, total - total // 2


def pad(w: "Writer", name: str, padding: Pads, called: str) -> str:
    """A tensor padded with real zero along its spatial axes; itself where there is nothing to pad."""
    if not any(n for ends in padding for n in ends):
        return name
    pads = w.integers(f"{called}.pads", [(0, 0), *padding, (0, 0)])
    batch, channels, *sizes = w.program.values[name].shape
    shape = [batch, *(int(n or 0) + sum(ends) for n, ends in zip(sizes, padding, strict=True)), channels]
    w.operator("PAD", [name, pads], w.value(name, called=called, shape=shape), "PadOptions")
    return called


def _linear_sums(w: "Writer", op: Layer) -> None:
    """A last layer whose sums are the network's output: exact int32 sums by BATCH_MATMUL, then one multiplication."""
    shape = w.program.values[op.name].shape
    source = w.grid(op.inputs[0])
    centred = op.weight.centred().to(torch.int64)
    bias = integer_bias(op, source)
    # the kernel sums the int8 codes as they are; what the zero point adds is a constant of each channel
    shift = centred.sum(1) * (source.zero_point + code_offset(source))
    total = (torch.zeros_like(shift) if bias is None else bias.to(torch.int64)) - shift
    scale = op.weight.channel_scale * torch.tensor(source.scale)
    weight = w.constant(f"{op.name}.weight", symmetric_weight(op), w.affine([1.0], [0]))
    w.operator(
        "BATCH_MATMUL",
        [op.inputs[0], weight],
        w.declare(f"{op.name}.products", shape, kind="int32"),
        "BatchMatMulOptions",
        adjY=True,
    )
    w.operator(
        "ADD",
        [f"{op.name}.products", w.constant(f"{op.name}.bias", array(total.to(torch.int32)))],
        w.declare(f"{op.name}.sum", shape, kind="int32"),
        "AddOptions",
    )
    kinds = w.schema.TensorType
    w.operator(
        "CAST", [f"{op.name}.sum"], w.declare(f"{op.name}.real", shape), "CastOptions",
        inDataType=kinds.INT32, outDataType=kinds.FLOAT32,
    )  # fmt: skip
    w.operator(
        "MUL",
        [f"{op.name}.real", w.constant(f"{op.name}.scale", array(scale))],
        w.value(op.name),
        "MulOptions",
    )


# -- combinations ---------------------------------------------------------------------------------------


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
    GlobalPool: _global_pool,
    Layer: _layer,
    Move: write_move,
    Multiply: _multiply,
    Pool: _pool,
    Quantize: _quantize,
}
