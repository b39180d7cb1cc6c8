"""Float operations of a whole tensor as ONNX nodes."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mqbench.deploy._arguments import argument, each
from mqbench.deploy._onnx_functions import FUNCTIONS, Write, first, operand
from mqbench.deploy._patterns import even_windows
from mqbench.deploy.program import Float
from mqbench.errors import RequestError

if TYPE_CHECKING:
    from mqbench.deploy._onnx_writer import Writer


def _softmax(w: "Writer", op: Float) -> None:
    rank = len(w.program.values[op.name].shape)
    w.node("Softmax", [first(w, op)], op.name, axis=argument(op, 1, "dim", -1) % rank)


def _layer_norm(w: "Writer", op: Float) -> None:
    if w.opset < 17:
        raise RequestError(f"{op.name}: layer normalization needs opset 17, got {w.opset}")
    shape: Any = op.args[1]
    given = [argument(op, 2, "weight"), argument(op, 3, "bias")]
    ones = w.constant(f"{op.name}.ones", np.ones(shape, dtype=np.float32)) if given[0] is None else ""
    names = [operand(w, op, p, 2) if p is not None else ones for p in given]
    inputs = [first(w, op), *(n for n in names if n)]
    w.node("LayerNormalization", inputs, op.name, axis=-len(shape), epsilon=argument(op, 4, "eps", 1e-5))


def _conv(w: "Writer", op: Float) -> None:
    weight: Any = op.args[1]
    spatial = int(op.target.split(".")[1][4])
    kernel = list(w.program.constants[weight.name].shape[2:]) if weight.name in w.program.constants else None
    padding, dilation = argument(op, 4, "padding", 0), each(argument(op, 5, "dilation", 1), spatial)
    if padding == "same":
        assert kernel is not None
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = tuple([t // 2 for t in totals] + [t - t // 2 for t in totals])
    else:
        pads = each(0 if padding == "valid" else padding, spatial) * 2
    inputs = [operand(w, op, a, i) for i, a in enumerate(op.args[:3]) if a is not None]
    w.node(
        "Conv",
        inputs,
        op.name,
        strides=each(argument(op, 3, "stride", 1), spatial),
        pads=pads,
        dilations=dilation,
        group=argument(op, 6, "groups", 1),
    )


def _conv_transpose(w: "Writer", op: Float) -> None:
    spatial = int(op.target.split(".")[1][len("conv_transpose")])
    inputs = [operand(w, op, a, i) for i, a in enumerate(op.args[:3]) if a is not None]
    w.node(
        "ConvTranspose",
        inputs,
        op.name,
        strides=each(argument(op, 3, "stride", 1), spatial),
        pads=each(argument(op, 4, "padding", 0), spatial) * 2,
        output_padding=each(argument(op, 5, "output_padding", 0), spatial),
        group=argument(op, 6, "groups", 1),
        dilations=each(argument(op, 7, "dilation", 1), spatial),
    )


def _linear(w: "Writer", op: Float) -> None:
    names = [operand(w, op, a, i) for i, a in enumerate(op.args[:3]) if a is not None]
    if len(w.program.values[op.name].shape) == 2:
        w.node("Gemm", names, op.name, transB=1)
        return
    turned = w.node("Transpose", [names[1]], f"{op.name}.turned", perm=[1, 0])
    product = w.node("MatMul", [names[0], turned], f"{op.name}.product" if names[2:] else op.name)
    if names[2:]:
        w.node("Add", [product, names[2]], op.name)


def _batch_norm(w: "Writer", op: Float) -> None:
    mean: Any = op.args[3]
    channels = len(w.program.constants[mean.name])
    ones = w.constant(f"{op.name}.ones", np.ones(channels, dtype=np.float32))
    zeros = w.constant(f"{op.name}.zeros", np.zeros(channels, dtype=np.float32))
    given = zip(op.args[1:3], (ones, zeros), strict=True)
    affine = [default if a is None else operand(w, op, a, 1) for a, default in given]
    statistics = [operand(w, op, a, 3) for a in op.args[3:5]]
    w.node("BatchNormalization", [first(w, op), *affine, *statistics], op.name, epsilon=op.args[7])


def _mean(w: "Writer", op: Float) -> None:
    rank = len(w.program.values[op.inputs[0]].shape)
    axes = [axis % rank for axis in each(argument(op, 1, "dim"), 1)]
    keep = int(argument(op, 2, "keepdim", False))
    if w.opset < 18:
        w.node("ReduceMean", [first(w, op)], op.name, axes=axes, keepdims=keep)
        return
    listed = w.constant(f"{op.name}.axes", np.asarray(axes, dtype=np.int64))
    w.node("ReduceMean", [first(w, op), listed], op.name, keepdims=keep)


def _adaptive(w: "Writer", op: Float) -> None:
    sizes = [int(n or 0) for n in w.program.values[op.inputs[0]].shape[2:]]
    windows = even_windows(sizes, wanted := each(argument(op, 1, "output_size"), len(sizes)))
    if all(n == 1 for n in wanted):
        w.node("GlobalAveragePool", [first(w, op)], op.name)
        return
    if windows is None:
        raise RequestError(
            f"{op.name}: adaptive pooling of {tuple(sizes)} to {tuple(wanted)} has overlapping windows, for which "
            "there is no ONNX form"
        )
    w.node("AveragePool", [first(w, op)], op.name, kernel_shape=windows, strides=windows)


def _avg_pool(w: "Writer", op: Float) -> None:
    spatial = int(op.target.split(".")[1][-2])
    kernel, padding = each(op.args[1], spatial), each(argument(op, 3, "padding", 0), spatial)
    w.node(
        "AveragePool",
        [first(w, op)],
        op.name,
        kernel_shape=kernel,
        strides=each(argument(op, 2, "stride") or kernel, spatial),
        pads=[*padding, *padding],
        ceil_mode=int(argument(op, 4, "ceil_mode", False)),
        count_include_pad=int(argument(op, 5, "count_include_pad", True)),
    )


def _cat(w: "Writer", op: Float) -> None:
    parts: Any = op.args[0]
    rank = len(w.program.values[op.name].shape)
    w.node("Concat", [operand(w, op, a, 0) for a in parts], op.name, axis=argument(op, 1, "dim", 0) % rank)


def _attention(w: "Writer", op: Float) -> None:
    if argument(op, 3, "attn_mask") is not None or argument(op, 5, "is_causal", False):
        raise RequestError(f"{op.name}: attention with a mask has no ONNX form here")
    q, k, v = (operand(w, op, a, i) for i, a in enumerate(op.args[:3]))
    query: Any = op.args[0]
    shape = w.program.values[query.name].shape
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    factor = op.kwargs.get("scale") or 1 / math.sqrt(shape[-1] or 1)
    turned = w.node("Transpose", [k], f"{op.name}.turned", perm=order)
    scores = w.node("MatMul", [q, turned], f"{op.name}.scores")
    scaled = w.node("Mul", [scores, w.constant(f"{op.name}.factor", np.float32(factor))], f"{op.name}.scaled")
    weights = w.node("Softmax", [scaled], f"{op.name}.weights", axis=-1)
    w.node("MatMul", [weights, v], op.name)


FLOATS: dict[str, Write] = FUNCTIONS | {
    "_softmax": _softmax,
    "adaptive_avg_pool1d": _adaptive,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_avg_pool3d": _adaptive,
    "avg_pool1d": _avg_pool,
    "avg_pool2d": _avg_pool,
    "avg_pool3d": _avg_pool,
    "batch_norm": _batch_norm,
    "cat": _cat,
    "conv1d": _conv,
    "conv2d": _conv,
    "conv3d": _conv,
    "conv_transpose1d": _conv_transpose,
    "conv_transpose2d": _conv_transpose,
    "conv_transpose3d": _conv_transpose,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "mean": _mean,
    "scaled_dot_product_attention": _attention,
    "softmax": _softmax,
}
