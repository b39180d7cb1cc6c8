"""Convolutions and linear layers of a program as LiteRT's operators, and what pads images in front of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from mqbench.deploy._tflite_writer import CHANNEL_LAST, array, code_offset, symmetric_weight
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
    form = Form.of(w, op, op.inputs[0], op.name, op.weight.integers.shape)
    if w.program.grid(op.name) is None:
        # LiteRT's convolutions give no sums, so without a quantizer behind it, it is float
        real = w.declare(f"{op.name}.dequantized", w.shapes[form.source])
        w.operator("DEQUANTIZE", [form.source], real, "DequantizeOptions")
        replace(form, source=real).write_float(w, op.name, op.weight.dequantize(), _real_bias(w, op))
    else:
        weight = symmetric_weight(op).transpose(form.order)
        inputs = [form.source, *_parameters(w, op, weight, form.order.index(0))]
        w.requantized(op, form.code, inputs, form.options, **form.fields)


class Convolution(Protocol):
    """The numbers of a `Layer` or of a float convolution, one a spatial axis."""

    @property
    def stride(self) -> tuple[int, ...]: ...
    @property
    def padding(self) -> Pads: ...
    @property
    def dilation(self) -> tuple[int, ...]: ...
    @property
    def groups(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Form:
    """A two-dimensional convolution as LiteRT has it.

    Args:
        code, options, fields: of the operator.
        source: the tensor that it reads, padded where the operator cannot do it.
        order: of the axes of its weight.
    """

    code: str
    options: str
    fields: dict[str, Any]
    source: str
    order: tuple[int, ...]

    @classmethod
    def of(cls, w: "Writer", op: Convolution, source: str, name: str, weight: Sequence[int]) -> "Form":
        """Append the padding that the convolution ``name`` of ``source`` needs; ``weight`` is its shape."""
        sizes = [int(n or 0) for n in w.program.values[source].shape[2:]]
        ends = tuple(_same(*axis) for axis in zip(sizes, weight[2:], op.stride, op.dilation, strict=True))
        kinds = w.schema.Padding
        fields = {
            "padding": kinds.SAME if op.padding == ends else kinds.VALID,
            "strideH": op.stride[0],
            "strideW": op.stride[1],
            "dilationHFactor": op.dilation[0],
            "dilationWFactor": op.dilation[1],
        }
        if op.padding != ends:
            source = pad(w, source, op.padding, f"{name}.padded")
        if op.groups > 1 and weight[1] == 1:
            fields["depthMultiplier"] = weight[0] // op.groups
            return cls(
                code="DEPTHWISE_CONV_2D", options="DepthwiseConv2DOptions", fields=fields, source=source,
                order=(1, 2, 3, 0),
            )  # fmt: skip
        return cls(code="CONV_2D", options="Conv2DOptions", fields=fields, source=source, order=CHANNEL_LAST)

    def write_float(self, w: "Writer", name: str, weight: Tensor, bias: Tensor) -> None:
        """Append it with float constants."""
        inputs = [self.source, w.real(weight, f"{name}.weight", self.order), w.real(bias, f"{name}.bias")]
        w.operator(self.code, inputs, w.value(name), self.options, **self.fields)


def _real_bias(w: "Writer", op: Layer) -> Tensor:
    """The value of the integer bias, which the reference adds: the float one is up to half a step of the sums off."""
    source = w.grid(op.inputs[0])
    steps = integer_bias(op, source)
    if steps is None:
        return torch.zeros(op.weight.channels)
    return (steps.double() * op.weight.channel_scale.double() * source.scale).float()


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
