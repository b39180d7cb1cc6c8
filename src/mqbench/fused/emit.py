"""The C++ text of an elementwise torch function: one loop that reads and writes every element once.

The function is traced by `torch.fx` and each operation is printed in its order, so that the loop computes
what the function says, operation by operation: true divisions, half-to-even rounding, no contraction to
fused multiply-adds. What it returns first is written for each element; what it returns beside that is
summed over the elements that share a parameter. Sums are formed in blocks, the blocks are added in double
precision and in order, so that the result does not depend on the number of threads.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from mqbench.fused.near import middle_tanh, near_tanh
from mqbench.fused.prelude import PRELUDE
from mqbench.fused.shells import channels_innermost, rows

_C_TYPES = {torch.float32: "float", torch.float64: "double"}

_BINARY: dict[Any, str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.eq: "==",
    operator.ne: "!=", operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
    operator.and_: "&", operator.or_: "|",
}  # fmt: skip
_CALLS: dict[Any, str] = {
    torch.round: "round_", torch.floor: "floor_", torch.tanh: "tanh_", torch.abs: "abs_", torch.sign: "sign_",
    torch.sqrt: "sqrt_", torch.copysign: "copysign_",
    near_tanh: "near_tanh_", middle_tanh: "middle_tanh_",
    torch.clamp: "clamp_", torch.where: "where_", operator.neg: "-", operator.invert: "!",
}  # fmt: skip


class UnsupportedOperation(NotImplementedError):
    """The function uses an operation that has no C++ form here."""


def emit(
    name: str,
    function: Callable[..., Any],
    *,
    tensors: Sequence[str],
    parameters: Sequence[str],
    absent: Sequence[str],
    scalars: Sequence[str],
    dtypes: Sequence[torch.dtype],
    sums: int,
    writes: int = 1,
    along: Sequence[bool] | None = None,
) -> str:
    """The text of the C function ``name``.

    Args:
        name: of the C function.
        function: called with all of the following by name; returns a tensor, or a tuple of those that are written
            and, for each parameter, what is summed into its gradient (None for nothing).
        tensors: names of the arguments that have a value for each element.
        parameters: names of the arguments that have one for each channel or one in all.
        absent: names of arguments that are None.
        scalars: names of numbers.
        dtypes: of the elements, then of each parameter.
        sums: how many results are summed; they come after the written one.
        writes: how many results are written for each element.
        along: where the channels are the innermost axis, whether each parameter has one value for each of them.

    Raises:
        UnsupportedOperation: an operation that has no C++ form.
    """
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    given: dict[str, Any] = dict.fromkeys(absent)
    for argument in (*tensors, *parameters, *scalars):
        given[argument] = fx.Proxy(graph.placeholder(argument), tracer)
    results = function(**given)
    results = results if isinstance(results, tuple) else (results,)
    results = [r for r in results if r is not None]
    assert len(results) == writes + sums

    lines = [f"const T {t} = {t}_[base + i];" for t in tensors]
    lines += [
        f"const auto {node.name} = {_expression(node)};" for node in graph.nodes if node.op != "placeholder"
    ]
    lines += [f"out{k}_[base + i] = {r.node.name};" for k, r in enumerate(results[:writes])]
    lines += [f"sum{i}[lane] += {r.node.name};" for i, r in enumerate(results[writes:])]

    kinds = [_C_TYPES[d] for d in dtypes]
    signature = [f"const T* {t}_" for t in tensors] + [f"T* out{i}_" for i in range(writes)]
    signature += [
        f"const {kind}* {p}_, int64_t {p}_step" for p, kind in zip(parameters, kinds[1:], strict=True)
    ]
    signature += [f"T* total{i}, int64_t total{i}_step" for i in range(sums)]
    signature += [f"double {s}_" for s in scalars]
    typed = list(zip(parameters, kinds[1:], strict=True))
    local = [f"const T {s} = T({s}_);" for s in scalars]
    if along is None:
        local += [f"const {kind} {p} = {p}_[channel * {p}_step];" for p, kind in typed]
        text = rows(name, signature, local, lines, sums)
    else:
        local += [
            f"const {kind} {p} = {p}_[0];" for (p, kind), many in zip(typed, along, strict=True) if not many
        ]
        lines[:0] = [
            f"const {kind} {p} = {p}_[i];" for (p, kind), many in zip(typed, along, strict=True) if many
        ]
        text = channels_innermost(name, signature, local, lines, sums)
    return f"#define T {kinds[0]}\n{PRELUDE}{text}"


def _expression(node: fx.Node) -> str:
    arguments = [_operand(a) for a in node.args]
    if node.kwargs:
        raise UnsupportedOperation(f"{node.target} with named arguments")
    target: Any = getattr(torch, str(node.target), None) if node.op == "call_method" else node.target
    if target in _BINARY:
        return f"{arguments[0]} {_BINARY[target]} {arguments[1]}"
    if node.op == "call_method" and node.target == "double":
        return f"double({arguments[0]})"
    if node.op == "call_method" and node.target == "type_as":
        return f"decltype({arguments[1]} + {arguments[1]})({arguments[0]})"
    if target not in _CALLS:
        raise UnsupportedOperation(f"{node.target}")
    return f"{_CALLS[target]}({', '.join(arguments)})"


def _operand(argument: Any) -> str:
    if isinstance(argument, fx.Node):
        return argument.name
    if isinstance(argument, bool) or not isinstance(argument, (int, float)):
        raise UnsupportedOperation(f"an operand {argument!r}")
    if math.isinf(argument):
        return f"T({'-' if argument < 0 else ''}__builtin_inf())"
    return f"T({float(argument)!r})"
