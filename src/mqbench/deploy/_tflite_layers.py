"""Convolutions and linear layers of a program as LiteRT's operators, and what pads images in front of them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from mqbench.deploy._tflite_writer import array, code_offset, symmetric_weight
from mqbench.deploy.bias import integer_bias
from mqbench.deploy.program import Layer, Pads
from mqbench.errors import IncompatibleError

if TYPE_CHECKING:
    from mqbench.deploy._tflite_writer import Writer


def write_layer(w: "Writer", op: Layer) -> None:
    """Append what computes a layer.

    Raises:
        IncompatibleError: its function or its weights have no form here.
    """
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
