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

BLOCK = 4096
LANES = 64, 16
"""How many channels have their sums in registers at a time, where the channels are the innermost axis."""

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

_SHELL = """
extern "C" void {name}({signature}, int64_t outer, int64_t channels, int64_t inner, int threads) {{
  const int64_t blocks = (inner + {block} - 1) / {block}, tasks = outer * channels * blocks;
  double* partial = {partial};
  #pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t task = 0; task < tasks; ++task) {{
    const int64_t row = task / blocks, channel = row % channels, start = (task % blocks) * {block};
    const int64_t base = row * inner + start, count = inner - start < {block} ? inner - start : {block};
{locals}
    #pragma omp simd{reduction}
    for (int64_t i = 0; i < count; ++i) {{
{body}
    }}
{keep}
  }}
{totals}
}}
"""


# where the channels are the innermost axis: rows of them, and a sum for each channel, some channels at a time
_SHELL_OF_ROWS = """
extern "C" void {name}({signature}, int64_t rows, int64_t channels, int64_t, int threads) {{
  const int64_t step = channels < {block} ? {block} / channels : 1, tasks = (rows + step - 1) / step;
  T* partial = {partial};
  #pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t task = 0; task < tasks; ++task) {{
    const int64_t begin = task * step, end = begin + step < rows ? begin + step : rows;
    T* own = partial + task * {sums} * channels;
{locals}
    const auto over = [&](const int64_t first, const auto lanes) {{
{sums_of_lanes}
      for (int64_t row = begin; row < end; ++row) {{
        const int64_t base = row * channels;
        #pragma omp simd
        for (int64_t lane = 0; lane < lanes; ++lane) {{
          const int64_t i = first + lane;
{body}
        }}
      }}
{keep}
    }};
{calls}
  }}
{totals}
}}
"""


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

    names = {node.name: node.name for node in graph.nodes}
    lines = [f"const T {t} = {t}_[base + i];" for t in tensors]
    lines += [
        f"const auto {node.name} = {_expression(node, names)};"
        for node in graph.nodes
        if node.op != "placeholder"
    ]
    lines += [f"out{k}_[base + i] = {r.node.name};" for k, r in enumerate(results[:writes])]
    sum_of = "sum{}" if along is None else "sum{}[lane]"
    lines += [f"{sum_of.format(i)} += {r.node.name};" for i, r in enumerate(results[writes:])]

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
        text = _SHELL.format(
            name=name,
            signature=", ".join(signature),
            block=BLOCK,
            partial=f"(double*)malloc(sizeof(double) * (tasks + 1) * {sums})" if sums else "nullptr",
            locals=_indented([*local, *(f"T sum{i} = 0;" for i in range(sums))], 4),
            reduction=f" reduction(+: {', '.join(f'sum{i}' for i in range(sums))})" if sums else "",
            body=_indented(lines, 6),
            keep=_indented([f"partial[task * {sums} + {i}] = sum{i};" for i in range(sums)], 4),
            totals=_totals(sums),
        )
    else:
        local += [
            f"const {kind} {p} = {p}_[0];" for (p, kind), many in zip(typed, along, strict=True) if not many
        ]
        lines[:0] = [
            f"const {kind} {p} = {p}_[i];" for (p, kind), many in zip(typed, along, strict=True) if many
        ]
        text = _SHELL_OF_ROWS.format(
            name=name,
            signature=", ".join(signature),
            block=2 * BLOCK,
            sums=sums,
            partial=f"(T*)malloc((tasks + 1) * {sums} * channels * sizeof(T))" if sums else "nullptr",
            calls=_indented(_chunks(sums), 4),
            locals=_indented(local, 4),
            sums_of_lanes=_indented([f"T sum{i}[{LANES[0]}] = {{}};" for i in range(sums)], 6),
            body=_indented(lines, 10),
            keep=_indented(_kept_lanes(sums), 6),
            totals=_totals_of_rows(sums),
        )
    return f"#define T {kinds[0]}\n{PRELUDE}{text}"


def _totals(sums: int) -> str:
    if not sums:
        return "  (void)partial;"
    lines = []
    for i in range(sums):
        entry = f"partial[((o * channels + c) * blocks + b) * {sums} + {i}]"
        lines += [
            "{",
            "  double total = 0;",
            "  for (int64_t c = 0; c < channels; ++c) {",
            "    for (int64_t o = 0; o < outer; ++o)",
            f"      for (int64_t b = 0; b < blocks; ++b) total += {entry};",
            f"    if (total{i}_step) {{ total{i}[c] = T(total); total = 0; }}",
            "  }",
            f"  if (!total{i}_step) total{i}[0] = T(total);",
            "}",
        ]
    return _indented([*lines, "free(partial);"], 2)


def _chunks(sums: int) -> list[str]:
    if not sums:
        return ["over(0, channels);"]
    whole = [
        f"for (; first + {n} <= channels; first += {n}) over(first, std::integral_constant<int64_t, {n}>());"
        for n in LANES
    ]
    return ["int64_t first = 0;", *whole, "if (first < channels) over(first, channels - first);"]


def _kept_lanes(sums: int) -> list[str]:
    stores = [f"own[{i} * channels + first + lane] = sum{i}[lane];" for i in range(sums)]
    return [f"for (int64_t lane = 0; lane < lanes; ++lane) {{ {' '.join(stores)} }}"] if sums else []


def _totals_of_rows(sums: int) -> str:
    lines = []
    for i in range(sums):
        lines += [
            "{",
            "  double all = 0;",
            "  for (int64_t c = 0; c < channels; ++c) {",
            "    double total = 0;",
            f"    for (int64_t t = 0; t < tasks; ++t) total += partial[(t * {sums} + {i}) * channels + c];",
            f"    if (total{i}_step) total{i}[c] = T(total);",
            "    all += total;",
            "  }",
            f"  if (!total{i}_step) total{i}[0] = T(all);",
            "}",
        ]
    return _indented([*lines, "free(partial);"], 2)


def _expression(node: fx.Node, names: dict[str, str]) -> str:
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


def _indented(lines: Sequence[str], spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines)
