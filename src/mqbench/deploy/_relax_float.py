"""Float operations in Relax."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mqbench.deploy._arguments import argument, each
from mqbench.deploy._float_convolution import float_convolution
from mqbench.deploy._patterns import even_windows
from mqbench.deploy._relax_moves import MOVES
from mqbench.deploy.program import Float, Ref
from mqbench.errors import IncompatibleError

if TYPE_CHECKING:
    from mqbench.deploy._relax_writer import Writer

Write = Callable[["Writer", Float], Any]


def write_float(w: "Writer", op: Float) -> Any:
    """Emit a float operation.

    Raises:
        IncompatibleError: it has no form here.
    """
    name = op.target.split(".")[1]
    if op.name in w.merged:
        return None
    if name in MOVES:
        return MOVES[name](w, op, _operand(w, op, op.args[0]), 0)
    if name not in FLOATS:
        raise IncompatibleError(f"the Relax lowering has no {op.target} ({op.name})")
    return FLOATS[name](w, op)


def _operand(w: "Writer", op: Float, value: Any) -> Any:
    if isinstance(value, Ref):
        return w.values[value.name]
    if isinstance(value, (int, float)):
        return w.constant(value, "float32")
    raise IncompatibleError(f"the Relax lowering has no {op.target} of {value!r} ({op.name})")


def _first(w: "Writer", op: Float) -> Any:
    return _operand(w, op, op.args[0])


def _unary(name: str, **fields: Any) -> Write:
    def write(w: "Writer", op: Float) -> Any:
        call: Any = w.op
        for part in name.split("."):
            call = getattr(call, part)
        return w.emit(call(_first(w, op), **fields))

    return write


def _binary(name: str) -> Write:
    def write(w: "Writer", op: Float) -> Any:
        second = _operand(w, op, op.args[1])
        if (alpha := op.kwargs.get("alpha", 1)) != 1:
            second = w.emit(w.op.multiply(second, w.constant(alpha, "float32")))
        return w.emit(getattr(w.op, name)(_first(w, op), second))

    return write


def _clip(low: Any, high: Any) -> Write:
    def write(w: "Writer", op: Float) -> Any:
        found = _first(w, op)
        for name, edge in (("maximum", low), ("minimum", high)):
            end = edge(op) if callable(edge) else edge
            if end is not None:
                found = w.emit(getattr(w.op, name)(found, w.constant(end, "float32")))
        return found

    return write


def _silu(w: "Writer", op: Float) -> Any:
    return w.emit(w.op.multiply(_first(w, op), w.emit(w.op.sigmoid(_first(w, op)))))


def _sixth(w: "Writer", op: Float) -> Any:
    """clip(x + 3, 0, 6) / 6."""
    raised = w.emit(w.op.add(_first(w, op), w.constant(3.0, "float32")))
    return w.emit(w.op.divide(w.emit(w.op.clip(raised, 0.0, 6.0)), w.constant(6.0, "float32")))


def _hardswish(w: "Writer", op: Float) -> Any:
    return w.emit(w.op.multiply(_first(w, op), _sixth(w, op)))


def _conv(w: "Writer", op: Float) -> Any:
    read = float_convolution(w.program, op, w.merged)
    before, after = zip(*read.padding, strict=True)
    found = w.emit(
        getattr(w.op.nn, op.target.split(".")[1])(
            w.values[read.source],
            w.values[read.weight],
            strides=list(read.stride),
            padding=[*before, *after],
            dilation=list(read.dilation),
            groups=read.groups,
        )
    )
    return found if read.bias is None else w.emit(w.op.add(found, _channels(w, op, w.values[read.bias])))


def _linear(w: "Writer", op: Float) -> Any:
    turned = w.emit(w.op.permute_dims(_operand(w, op, op.args[1])))
    found = w.emit(w.op.matmul(_first(w, op), turned))
    bias = argument(op, 2, "bias")
    return found if bias is None else w.emit(w.op.add(found, _operand(w, op, bias)))


def _batch_norm(w: "Writer", op: Float) -> Any:
    """(x - mean) gamma / sqrt(var + eps) + beta, of stored statistics."""
    gamma, beta, mean, variance = (
        None if a is None else _channels(w, op, w.values[a.name]) for a in op.args[1:5]
    )
    raised = w.emit(w.op.add(variance, w.constant(op.args[7], "float32")))
    found = w.emit(w.op.divide(w.emit(w.op.subtract(_first(w, op), mean)), w.emit(w.op.sqrt(raised))))
    found = found if gamma is None else w.emit(w.op.multiply(found, gamma))
    return found if beta is None else w.emit(w.op.add(found, beta))


def _channels(w: "Writer", op: Float, vector: Any) -> Any:
    """``[channels]`` against what the operation gives."""
    return w.emit(w.op.reshape(vector, [1, -1, *[1] * (len(w.program.values[op.name].shape) - 2)]))


def _mean(w: "Writer", op: Float) -> Any:
    axes = each(argument(op, 1, "dim"), 1)
    return w.emit(w.op.mean(_first(w, op), axes, keepdims=bool(argument(op, 2, "keepdim", False))))


def _adaptive(w: "Writer", op: Float) -> Any:
    sizes = [int(n or 0) for n in w.program.values[op.inputs[0]].shape[2:]]
    wanted = each(argument(op, 1, "output_size"), len(sizes))
    if all(n == 1 for n in wanted):
        return w.emit(w.op.mean(_first(w, op), list(range(2, 2 + len(sizes))), keepdims=True))
    windows = even_windows(sizes, wanted)
    if windows is None:
        raise IncompatibleError(
            f"the Relax lowering has no adaptive pool with overlapping windows ({op.name})"
        )
    pool = getattr(w.op.nn, f"avg_pool{len(sizes)}d")
    return w.emit(pool(_first(w, op), pool_size=list(windows), strides=list(windows)))


def _avg_pool(w: "Writer", op: Float) -> Any:
    spatial = int(op.target.split(".")[1][-2])
    kernel, padding = each(op.args[1], spatial), each(argument(op, 3, "padding", 0), spatial)
    return w.emit(
        getattr(w.op.nn, f"avg_pool{spatial}d")(
            _first(w, op),
            pool_size=kernel,
            strides=each(argument(op, 2, "stride") or kernel, spatial),
            padding=[*padding, *padding],
            ceil_mode=bool(argument(op, 4, "ceil_mode", False)),
            count_include_pad=bool(argument(op, 5, "count_include_pad", True)),
        )
    )


def _cat(w: "Writer", op: Float) -> Any:
    parts: Any = op.args[0]
    return w.emit(w.op.concat([_operand(w, op, part) for part in parts], axis=argument(op, 1, "dim", 0)))


def _softmax(w: "Writer", op: Float) -> Any:
    return w.emit(w.op.nn.softmax(_first(w, op), axis=argument(op, 1, "dim", -1)))


FLOATS: dict[str, Write] = {
    "_softmax": _softmax,
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), _adaptive),
    "add": _binary("add"),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _avg_pool),
    "batch_norm": _batch_norm,
    "bmm": _binary("matmul"),
    "cat": _cat,
    "clamp": _clip(lambda op: argument(op, 1, "min"), lambda op: argument(op, 2, "max")),
    "clamp_max": _clip(None, lambda op: argument(op, 1, "max")),
    "clamp_min": _clip(lambda op: argument(op, 1, "min"), None),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    "div": _binary("divide"),
    "exp": _unary("exp"),
    "hardsigmoid": _sixth,
    "hardswish": _hardswish,
    "hardtanh": _clip(
        lambda op: argument(op, 1, "min_val", -1.0), lambda op: argument(op, 2, "max_val", 1.0)
    ),
    "linear": _linear,
    "matmul": _binary("matmul"),
    "mean": _mean,
    "mul": _binary("multiply"),
    "neg": _unary("negative"),
    "relu": _unary("nn.relu"),
    "relu6": _clip(0.0, 6.0),
    "sigmoid": _unary("sigmoid"),
    "silu": _silu,
    "softmax": _softmax,
    "sub": _binary("subtract"),
    "tanh": _unary("tanh"),
}
