"""Float operations as LiteRT's operators; images are channel last there."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mqbench.deploy._arguments import argument, each
from mqbench.deploy._float_convolution import float_convolution
from mqbench.deploy._patterns import even_windows
from mqbench.deploy._tflite_layers import Form, pad
from mqbench.deploy._tflite_moves import MOVES
from mqbench.deploy._tflite_writer import CHANNEL_LAST, array, stored_axis
from mqbench.deploy.program import Float, Ref
from mqbench.errors import IncompatibleError

if TYPE_CHECKING:
    from mqbench.deploy._tflite_writer import Writer

Write = Callable[["Writer", Float], None]
_INFINITY = float("inf")


def write_float(w: "Writer", op: Float) -> None:
    """Append what computes a float operation.

    Raises:
        IncompatibleError: it has no form here.
    """
    name = op.target.split(".")[1]
    if op.name in w.merged:
        return
    if name in MOVES:
        MOVES[name](w, op)
    elif name in FLOATS:
        FLOATS[name](w, op)
    else:
        raise IncompatibleError(f"the LiteRT writer has no {op.target} ({op.name})")


def _rank(w: "Writer", name: str) -> int:
    return len(w.program.values[name].shape)


def _operand(w: "Writer", op: Float, place: int) -> str:
    """The tensor at this place, a constant as the operation's result is stored."""
    value, rank = op.args[place], _rank(w, op.name)
    if isinstance(value, (int, float)):
        return w.number(f"{op.name}.operand{place}", value)
    if not isinstance(value, Ref):
        raise IncompatibleError(f"the LiteRT writer has no {op.target} of {value!r} ({op.name})")
    if value.name in w.program.constants:
        known = array(w.program.constants[value.name].float())
        if known.ndim and rank == 4:
            known = known.reshape([1] * (rank - known.ndim) + list(known.shape)).transpose(CHANNEL_LAST)
        return w.constant(f"{op.name}.operand{place}", known)
    if 4 in (rank, _rank(w, value.name)) and _rank(w, value.name) != rank:
        raise IncompatibleError(f"the LiteRT writer combines tensors of one number of axes only ({op.name})")
    return value.name


def _unary(code: str, options: str = "", **fields: Any) -> Write:
    return lambda w, op: w.operator(code, [_operand(w, op, 0)], w.value(op.name), options, **fields)


def _binary(code: str, options: str) -> Write:
    def write(w: "Writer", op: Float) -> None:
        second = _operand(w, op, 1)
        if (alpha := op.kwargs.get("alpha", 1)) != 1:
            factor = w.number(f"{op.name}.alpha", alpha)
            scaled = w.declare(f"{op.name}.scaled", w.shapes[second])
            w.operator("MUL", [second, factor], scaled, "MulOptions")
            second = scaled
        w.operator(code, [_operand(w, op, 0), second], w.value(op.name), options)

    return write


_BOUNDED = {(0.0, _INFINITY): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def _clip(low: Any, high: Any) -> Write:
    def write(w: "Writer", op: Float) -> None:
        given = [edge(op) if callable(edge) else edge for edge in (low, high)]
        bounds = tuple(
            default if edge is None else float(edge)
            for edge, default in zip(given, (-_INFINITY, _INFINITY), strict=True)
        )
        source = _operand(w, op, 0)
        if bounds in _BOUNDED:
            w.operator(_BOUNDED[bounds], [source], w.value(op.name))
            return
        ends = [
            (code, edge)
            for code, edge in zip(("MAXIMUM", "MINIMUM"), bounds, strict=True)
            if abs(edge) < _INFINITY
        ]
        for place, (code, edge) in enumerate(ends):
            end = w.number(f"{op.name}.{code.lower()}", edge)
            called = op.name if place == len(ends) - 1 else f"{op.name}.{code.lower()}.out"
            w.operator(code, [source, end], w.value(op.name, called=called), "MaximumMinimumOptions")
            source = called

    return write


def _between(w: "Writer", op: Float, part: str) -> str:
    """A tensor like the operation's own, on the way to it."""
    return w.value(op.name, called=f"{op.name}.{part}")


def _silu(w: "Writer", op: Float) -> None:
    gate = _between(w, op, "gate")
    w.operator("LOGISTIC", [_operand(w, op, 0)], gate)
    w.operator("MUL", [_operand(w, op, 0), gate], w.value(op.name), "MulOptions")


def _hardsigmoid(w: "Writer", op: Float) -> None:
    three, sixth = (w.number(f"{op.name}.{k}", n) for k, n in (("three", 3), ("sixth", 1 / 6)))
    raised, clipped = _between(w, op, "raised"), _between(w, op, "clipped")
    w.operator("ADD", [_operand(w, op, 0), three], raised, "AddOptions")
    w.operator("RELU6", [raised], clipped)
    w.operator("MUL", [clipped, sixth], w.value(op.name), "MulOptions")


def _conv(w: "Writer", op: Float) -> None:
    read = float_convolution(w.program, op, w.merged)
    weight = w.program.constants[read.weight].float()
    if len(read.stride) != 2:
        raise IncompatibleError(f"the LiteRT writer has conv2d and linear; {op.name} is {op.target}")
    form = Form.of(w, read, read.source, op.name, weight.shape)
    bias = torch.zeros(len(weight)) if read.bias is None else w.program.constants[read.bias]
    form.write_float(w, op.name, weight, bias)


def _linear(w: "Writer", op: Float) -> None:
    rank = _rank(w, op.name)
    weight: Any = op.args[1]
    if rank > 3 or weight.name not in w.program.constants:
        raise IncompatibleError(
            f"the LiteRT writer has linear layers of 2 and 3 axes and constant weights; {op.name} has {rank} axes"
        )
    names = [w.real(w.program.constants[weight.name], f"{op.name}.weight")]
    if (bias := argument(op, 2, "bias")) is not None:
        names.append(w.real(w.program.constants[bias.name], f"{op.name}.bias"))
    inputs = [_operand(w, op, 0), *names]
    w.operator("FULLY_CONNECTED", inputs, w.value(op.name), "FullyConnectedOptions", keepNumDims=rank > 2)


def _matmul(w: "Writer", op: Float) -> None:
    if _rank(w, op.name) > 3:
        raise IncompatibleError(f"the LiteRT writer has matrix products of 2 and 3 axes ({op.name})")
    w.operator(
        "BATCH_MATMUL", [_operand(w, op, 0), _operand(w, op, 1)], w.value(op.name), "BatchMatMulOptions"
    )


def _batch_norm(w: "Writer", op: Float) -> None:
    """x gamma / sqrt(var + eps), and what is left, of stored statistics."""
    given: Any = op.args[1:5]
    gamma, beta, mean, variance = (None if a is None else w.program.constants[a.name].double() for a in given)
    scale = (1.0 if gamma is None else gamma) / (variance + op.args[7]).sqrt()
    shift = (0.0 if beta is None else beta) - mean * scale
    shape = [-1, *[1] * (_rank(w, op.name) - 2)] if _rank(w, op.name) != 4 else [-1]
    names = [w.real(n.reshape(shape), f"{op.name}.{k}") for n, k in ((scale, "scale"), (shift, "shift"))]
    w.operator("MUL", [_operand(w, op, 0), names[0]], _between(w, op, "scaled"), "MulOptions")
    w.operator("ADD", [f"{op.name}.scaled", names[1]], w.value(op.name), "AddOptions")


def _mean(w: "Writer", op: Float) -> None:
    _averaged(w, op, each(argument(op, 1, "dim"), 1), keep=bool(argument(op, 2, "keepdim", False)))


def _averaged(w: "Writer", op: Float, axes: Sequence[int], *, keep: bool) -> None:
    rank = _rank(w, op.inputs[0])
    stored = [stored_axis(axis, rank) for axis in axes]
    left = [stored_axis(axis, rank) for axis in range(rank) if stored_axis(axis, rank) not in stored]
    if rank > 4 or (not keep and left != sorted(left)):
        raise IncompatibleError(f"the LiteRT writer has no mean over these axes ({op.name})")
    inputs = [op.inputs[0], w.integers(f"{op.name}.axes", stored)]
    w.operator("MEAN", inputs, w.value(op.name), "ReducerOptions", keepDims=keep)


def _adaptive(w: "Writer", op: Float) -> None:
    sizes = [int(n or 0) for n in w.program.values[op.inputs[0]].shape[2:]]
    wanted = each(argument(op, 1, "output_size"), len(sizes))
    windows = even_windows(sizes, wanted)
    if all(n == 1 for n in wanted):
        _averaged(w, op, list(range(2, 2 + len(sizes))), keep=True)
    elif windows is None or len(sizes) != 2:
        raise IncompatibleError(
            f"the LiteRT writer has no adaptive pool with overlapping windows ({op.name})"
        )
    else:
        _pooled(w, op, op.inputs[0], windows, windows)


def _pooled(w: "Writer", op: Float, source: str, kernel: Any, stride: Any) -> None:
    w.operator(
        "AVERAGE_POOL_2D", [source], w.value(op.name), "Pool2DOptions", padding=w.schema.Padding.VALID,
        strideH=stride[0], strideW=stride[1], filterHeight=kernel[0], filterWidth=kernel[1],
    )  # fmt: skip


def _avg_pool(w: "Writer", op: Float) -> None:
    kernel, padding = each(op.args[1], 2), each(argument(op, 3, "padding", 0), 2)
    counted = bool(argument(op, 5, "count_include_pad", True))
    if argument(op, 4, "ceil_mode", False) or (any(padding) and not counted):
        raise IncompatibleError(
            f"the LiteRT writer has average pools of images with windows of one size; {op.name} has ceil_mode or "
            "does not count its padding"
        )
    source = pad(w, op.inputs[0], tuple((n, n) for n in padding), f"{op.name}.padded")
    _pooled(w, op, source, kernel, each(argument(op, 2, "stride") or kernel, 2))


def _cat(w: "Writer", op: Float) -> None:
    parts: Any = op.args[0]
    names = [part.name for part in parts]
    if len(set(names) & set(w.program.constants)):
        raise IncompatibleError(f"the LiteRT writer joins computed tensors only ({op.name})")
    axis = stored_axis(argument(op, 1, "dim", 0), _rank(w, op.name))
    w.operator("CONCATENATION", names, w.value(op.name), "ConcatenationOptions", axis=axis)


def _softmax(w: "Writer", op: Float) -> None:
    rank = _rank(w, op.name)
    if stored_axis(argument(op, 1, "dim", -1), rank) != rank - 1:
        raise IncompatibleError(f"LiteRT's softmax is over the last axis as it is stored ({op.name})")
    w.operator("SOFTMAX", [_operand(w, op, 0)], w.value(op.name), "SoftmaxOptions", beta=1.0)


FLOATS: dict[str, Write] = {
    **dict.fromkeys(("softmax", "_softmax"), _softmax),
    "adaptive_avg_pool2d": _adaptive,
    "add": _binary("ADD", "AddOptions"),
    "avg_pool2d": _avg_pool,
    "batch_norm": _batch_norm,
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    "cat": _cat,
    "clamp": _clip(lambda op: argument(op, 1, "min"), lambda op: argument(op, 2, "max")),
    "clamp_max": _clip(None, lambda op: argument(op, 1, "max")),
    "clamp_min": _clip(lambda op: argument(op, 1, "min"), None),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    "div": _binary("DIV", "DivOptions"),
    "exp": _unary("EXP", "ExpOptions"),
    "hardsigmoid": _hardsigmoid,
    "hardswish": _unary("HARD_SWISH", "HardSwishOptions"),
    "hardtanh": _clip(
        lambda op: argument(op, 1, "min_val", -1.0), lambda op: argument(op, 2, "max_val", 1.0)
    ),
    "linear": _linear,
    "mean": _mean,
    "mul": _binary("MUL", "MulOptions"),
    "neg": _unary("NEG", "NegOptions"),
    "relu": _clip(0.0, None),
    "relu6": _clip(0.0, 6.0),
    "sigmoid": _unary("LOGISTIC"),
    "silu": _silu,
    "sub": _binary("SUB", "SubOptions"),
    "tanh": _unary("TANH"),
}
