"""The C++ function around the statements of a loop: which elements, by which thread, and what becomes of the sums.

A statement adds to ``sumK[lane]``. These are vectors, so that they stay in registers over many elements.
"""

from collections.abc import Sequence

BLOCK, SHORT = 4096, 1024
"""Elements of a part of a long row; elements of the short rows of one channel that are taken together."""
LANES = 64, 16
"""Sums that are kept in registers at a time: of channels where they are the innermost axis, else the last number."""


# a task is part of a long row of one channel, or several short ones
_ROWS = """
extern "C" void {name}({signature}, int64_t outer, int64_t channels, int64_t inner, int threads) {{
  const int64_t blocks = (inner + {block} - 1) / {block}, step = inner && inner < {short} ? {short} / inner : 1;
  const int64_t groups = (outer + step - 1) / step, tasks = groups * channels * blocks;
  double* partial = {partial};
  #pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
  for (int64_t task = 0; task < tasks; ++task) {{
    const int64_t start = task % blocks * {block}, channel = task / blocks % channels;
    const int64_t begin = task / blocks / channels * step, end = begin + step < outer ? begin + step : outer;
    const int64_t count = inner - start < {block} ? inner - start : {block};
{locals}
    for (int64_t row = begin; row < end; ++row) {{
      const int64_t base = (row * channels + channel) * inner + start;
{loop}
    }}
{keep}
  }}
{totals}
}}
"""

_LOOP = """
#pragma omp simd
for (int64_t i = 0; i < count; ++i) {{
{body}
}}
"""

_LOOP_WITH_SUMS = """
const auto over = [&](const int64_t first, const auto lanes) {{
  #pragma omp simd
  for (int64_t lane = 0; lane < lanes; ++lane) {{
    const int64_t i = first + lane;
{body}
  }}
}};
int64_t first = 0;
for (; first + {lanes} <= count; first += {lanes}) over(first, std::integral_constant<int64_t, {lanes}>());
if (first < count) over(first, count - first);
"""


# where the channels are the innermost axis: rows of them, and a sum for each channel, some channels at a time
_CHANNELS_INNERMOST = """
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


def rows(name: str, signature: Sequence[str], local: Sequence[str], body: Sequence[str], sums: int) -> str:
    """Tensors in the order ``[outer, channels, inner]``.

    Args:
        name: of the function.
        signature: its own arguments.
        local: statements for each row.
        body: statements for element ``base + i``.
        sums: how many.
    """
    lanes = LANES[-1]
    return _ROWS.format(
        name=name,
        signature=", ".join(signature),
        block=BLOCK,
        short=SHORT,
        partial=f"(double*)malloc(sizeof(double) * (tasks + 1) * {sums})" if sums else "nullptr",
        locals=_indented([*local, *(f"T sum{i}[{lanes}] = {{}};" for i in range(sums))], 4),
        loop=_indented(
            (_LOOP_WITH_SUMS if sums else _LOOP).format(lanes=lanes, body=_indented(body, 4)).split("\n"), 6
        ),
        keep=_indented(_kept(sums, lanes), 4),
        totals=_totals(sums),
    )


def channels_innermost(
    name: str, signature: Sequence[str], local: Sequence[str], body: Sequence[str], sums: int
) -> str:
    """Tensors in the order ``[rows, channels]``; as `rows`, with ``local`` for each task and ``i`` the channel."""
    return _CHANNELS_INNERMOST.format(
        name=name,
        signature=", ".join(signature),
        block=2 * BLOCK,
        sums=sums,
        partial=f"(T*)malloc((tasks + 1) * {sums} * channels * sizeof(T))" if sums else "nullptr",
        calls=_indented(_chunks(sums), 4),
        locals=_indented(local, 4),
        sums_of_lanes=_indented([f"T sum{i}[{LANES[0]}] = {{}};" for i in range(sums)], 6),
        body=_indented(body, 10),
        keep=_indented(_kept_lanes(sums), 6),
        totals=_totals_of_channels(sums),
    )


def _kept(sums: int, lanes: int) -> list[str]:
    lines = [
        f"for (int64_t lane = 0; lane < {lanes}; ++lane) total += sum{i}[lane]; partial[task * {sums} + {i}] = total;"
        for i in range(sums)
    ]
    return [f"{{ double total = 0; {line} }}" for line in lines]


def _totals(sums: int) -> str:
    if not sums:
        return "  (void)partial;"
    lines = []
    for i in range(sums):
        entry = f"partial[((g * channels + c) * blocks + b) * {sums} + {i}]"
        lines += [
            "{",
            "  double total = 0;",
            "  for (int64_t c = 0; c < channels; ++c) {",
            "    for (int64_t g = 0; g < groups; ++g)",
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


def _totals_of_channels(sums: int) -> str:
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


def _indented(lines: Sequence[str], spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines)
