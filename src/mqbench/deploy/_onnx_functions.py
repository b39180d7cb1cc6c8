"""Functions of single values, and of two tensors element by element, as ONNX nodes."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mqbench.deploy._arguments import argument
from mqbench.deploy.program import Float, Ref
from mqbench.errors import RequestError

if TYPE_CHECKING:
    from mqbench.deploy._onnx_writer import Writer

Write = Callable[["Writer", Float], None]


def operand(w: "Writer", op: Float, value: Any, place: int) -> str:
    """A tensor of the program, or a number as a constant; `place` tells several constants of an operation apart."""
    if isinstance(value, Ref):
        return w.tensor(value.name)
    if isinstance(value, (int, float)):
        return w.constant(f"{op.name}.operand{place}", np.float32(value))
    raise RequestError(f"{op.name}: {op.target} of {value!r} has no ONNX form")


def first(w: "Writer", op: Float) -> str:
    """The first tensor that an operation reads."""
    return operand(w, op, op.args[0], 0)


def _unary(kind: str, **attributes: Any) -> Write:
    return lambda w, op: void(w.node(kind, [first(w, op)], op.name, **attributes))


def void(_: object) -> None:
    """Drop a result."""


def _binary(kind: str) -> Write:
    def write(w: "Writer", op: Float) -> None:
        second = operand(w, op, op.args[1], 1)
        alpha = op.kwargs.get("alpha", 1)
        if alpha != 1:
            factor = w.constant(f"{op.name}.alpha", np.float32(alpha))
            second = w.node("Mul", [second, factor], f"{op.name}.scaled")
        w.node(kind, [first(w, op), second], op.name)

    return write


def _clip(low: Any, high: Any) -> Write:
    def write(w: "Writer", op: Float) -> None:
        edges = [edge(op) if callable(edge) else edge for edge in (low, high)]
        names = [
            "" if edge is None else w.constant(f"{op.name}.edge{i}", np.float32(edge))
            for i, edge in enumerate(edges)
        ]
        w.node("Clip", [first(w, op), *names], op.name)

    return write


def _silu(w: "Writer", op: Float) -> None:
    gate = w.node("Sigmoid", [first(w, op)], f"{op.name}.gate")
    w.node("Mul", [first(w, op), gate], op.name)


def _gelu(w: "Writer", op: Float) -> None:
    x = first(w, op)
    numbers = {"root": math.sqrt(2.0), "one": 1.0, "half": 0.5}
    root, one, half = (w.constant(f"{op.name}.{k}", np.float32(v)) for k, v in numbers.items())
    if op.kwargs.get("approximate", "none") == "none":
        bent = w.node("Erf", [w.node("Div", [x, root], f"{op.name}.scaled")], f"{op.name}.erf")
    else:  # tanh(sqrt(2 / pi) (x + 0.044715 x^3))
        cubic, outer = (
            w.constant(f"{op.name}.{k}", np.float32(v))
            for k, v in {"cubic": 0.044715, "outer": math.sqrt(2 / math.pi)}.items()
        )
        cube = w.node("Mul", [w.node("Mul", [x, x], f"{op.name}.square"), x], f"{op.name}.cube")
        inner = w.node("Add", [x, w.node("Mul", [cube, cubic], f"{op.name}.third")], f"{op.name}.inner")
        bent = w.node("Tanh", [w.node("Mul", [inner, outer], f"{op.name}.outward")], f"{op.name}.tanh")
    raised = w.node("Add", [bent, one], f"{op.name}.raised")
    w.node("Mul", [w.node("Mul", [x, raised], f"{op.name}.twice"), half], op.name)


def _softplus(w: "Writer", op: Float) -> None:
    if argument(op, 1, "beta", 1.0) != 1:
        raise RequestError(f"{op.name}: softplus with a beta other than 1 has no ONNX form")
    w.node("Softplus", [first(w, op)], op.name)


def _mish(w: "Writer", op: Float) -> None:
    x = first(w, op)
    soft = w.node("Softplus", [x], f"{op.name}.softplus")
    w.node("Mul", [x, w.node("Tanh", [soft], f"{op.name}.gate")], op.name)


def _prelu(w: "Writer", op: Float) -> None:
    slope: Any = op.args[1]
    if not isinstance(slope, Ref) or slope.name not in w.program.constants:
        raise RequestError(f"{op.name}: a computed slope of PReLU has no ONNX form")
    values = w.program.constants[slope.name].float().cpu().numpy()
    rank = len(w.program.values[op.name].shape)
    # ONNX broadcasts from the last axis, and torch's slopes are those of the channels
    shaped = w.constant(f"{op.name}.slope", values.reshape(-1, *[1] * (rank - 2)))
    w.node("PRelu", [first(w, op), shaped], op.name)


FUNCTIONS: dict[str, Write] = {
    "add": _binary("Add"),
    "sub": _binary("Sub"),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "pow": _binary("Pow"),
    "matmul": _binary("MatMul"),
    "bmm": _binary("MatMul"),
    "abs": _unary("Abs"),
    "celu": lambda w, op: void(w.node("Celu", [first(w, op)], op.name, alpha=argument(op, 1, "alpha", 1.0))),
    "clamp": _clip(lambda op: argument(op, 1, "min"), lambda op: argument(op, 2, "max")),
    "clamp_max": _clip(None, lambda op: argument(op, 1, "max")),
    "clamp_min": _clip(lambda op: argument(op, 1, "min"), None),
    "elu": _unary("Elu"),
    "erf": _unary("Erf"),
    "exp": _unary("Exp"),
    "gelu": _gelu,
    "hardsigmoid": _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hardswish": _unary("HardSwish"),
    "hardtanh": _clip(
        lambda op: argument(op, 1, "min_val", -1.0), lambda op: argument(op, 2, "max_val", 1.0)
    ),
    "leaky_relu": lambda w, op: void(
        w.node("LeakyRelu", [first(w, op)], op.name, alpha=argument(op, 1, "negative_slope", 0.01))
    ),
    "log": _unary("Log"),
    "mish": _mish,
    "neg": _unary("Neg"),
    "prelu": _prelu,
    "relu": _unary("Relu"),
    "relu6": _clip(0.0, 6.0),
    "rsqrt": lambda w, op: void(
        w.node("Reciprocal", [w.node("Sqrt", [first(w, op)], f"{op.name}.root")], op.name)
    ),
    "selu": _unary("Selu"),
    "sigmoid": _unary("Sigmoid"),
    "silu": _silu,
    "softplus": _softplus,
    "sqrt": _unary("Sqrt"),
    "tanh": _unary("Tanh"),
}
