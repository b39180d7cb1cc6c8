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

BLOCK = 4096

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

_PRELUDE = """
#include <cstdint>
#include <cstdlib>
static inline float round_(float v) { return __builtin_rintf(v); }
static inline double round_(double v) { return __builtin_rint(v); }
static inline float floor_(float v) { return __builtin_floorf(v); }
static inline double floor_(double v) { return __builtin_floor(v); }
static inline float abs_(float v) { return __builtin_fabsf(v); }
static inline double abs_(double v) { return __builtin_fabs(v); }
static inline float sqrt_(float v) { return __builtin_sqrtf(v); }
static inline double sqrt_(double v) { return __builtin_sqrt(v); }
static inline float copysign_(float v, float s) { return __builtin_copysignf(v, s); }
static inline double copysign_(double v, double s) { return __builtin_copysign(v, s); }
static inline double tanh_(double v) { return __builtin_tanh(v); }
static inline double near_tanh_(double v) { return __builtin_tanh(v); }
static inline double middle_tanh_(double v) { return __builtin_tanh(v); }
static inline float near_tanh_(float v) {  // least squares of tanh(v)/v in v^2, to 2e-8
  const float z = v * v;
  float p = -5.02419017794e-3f;
  p = p * z + 1.99512713532e-2f; p = p * z - 5.34969764365e-2f; p = p * z + 1.33279482087e-1f;
  p = p * z - 3.33331043931e-1f;
  return (p * z + 1.0f) * v;  // z v would be subnormal, and slow, where v is 1e-14 (a folded batch norm of gamma 0)
}
static inline float middle_tanh_(float v) {  // rational, least squares of (tanh(v)/v - 1)/v^2 in v^2, to 1e-9
  const float z = v * v;
  float p = -5.56945755e-6f, q = 1.72582574e-2f;
  p = p * z - 1.59550238e-2f; p = p * z - 3.33333317e-1f;
  q = q * z + 4.47864846e-1f; q = q * z + 1.0f;
  return (p / q * z + 1.0f) * v;
}
template <class V> static inline V sign_(V v) { return V(v > V(0)) - V(v < V(0)); }
template <class V> static inline V clamp_(V v, T lo, T hi) { v = v < V(lo) ? V(lo) : v; return v > V(hi) ? V(hi) : v; }
template <class A, class B> static inline auto where_(bool c, A a, B b) -> decltype(a + b) { return c ? a : b; }
// to the last place or two of tanhf, but without branches or tables, so that the loop is vectorised
static inline float exp_(float v) {
  const float n = __builtin_rintf(v * 1.44269504f);
  float r = v - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f; p = p * r + 8.3334519073e-3f; p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f; p = p * r + 5.0000001201e-1f;
  const float e = p * r * r + r + 1.0f;
  union { int32_t i; float f; } scale;
  scale.i = (int32_t(n) + 127) << 23;
  return e * scale.f;
}
static inline float tanh_(float v) {
  const float a = __builtin_fabsf(v), z = v * v;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f; p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f; p = p * z - 3.33332819422e-1f;
  const float near = (p * z + 1.0f) * v;
  const float far = 1.0f - 2.0f / (exp_(2.0f * (a > 20.0f ? 20.0f : a)) + 1.0f);
  return a < 0.625f ? near : v != v ? v : __builtin_copysignf(far, v);
}
"""

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
    lines += [f"sum{i} += {r.node.name};" for i, r in enumerate(results[writes:])]

    kinds = [_C_TYPES[d] for d in dtypes]
    signature = [f"const T* {t}_" for t in tensors] + [f"T* out{i}_" for i in range(writes)]
    signature += [
        f"const {kind}* {p}_, int64_t {p}_step" for p, kind in zip(parameters, kinds[1:], strict=True)
    ]
    signature += [f"T* total{i}, int64_t total{i}_step" for i in range(sums)]
    signature += [f"double {s}_" for s in scalars]
    local = [
        f"const {kind} {p} = {p}_[channel * {p}_step];" for p, kind in zip(parameters, kinds[1:], strict=True)
    ]
    local += [f"const T {s} = T({s}_);" for s in scalars]
    local += [f"T sum{i} = 0;" for i in range(sums)]
    shell = _SHELL.format(
        name=name,
        signature=", ".join(signature),
        block=BLOCK,
        partial=f"(double*)malloc(sizeof(double) * (tasks + 1) * {sums})" if sums else "nullptr",
        locals=_indented(local, 4),
        reduction=f" reduction(+: {', '.join(f'sum{i}' for i in range(sums))})" if sums else "",
        body=_indented(lines, 6),
        keep=_indented([f"partial[task * {sums} + {i}] = sum{i};" for i in range(sums)], 4),
        totals=_totals(sums),
    )
    return f"#define T {kinds[0]}\n{_PRELUDE}{shell}"


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
