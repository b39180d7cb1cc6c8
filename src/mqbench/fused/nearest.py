"""The nearest of a table of levels, and how often each was taken for which sum of values, in one pass.

A level is found by comparing with all mid-points, so that the work grows with their number; beyond `MAX_LEVELS` torch's
bisection is as fast.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from math import inf, prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mqbench.fused import build
from mqbench.fused.definition import NOTHING, Before
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.loop import SERIAL, takes
from mqbench.fused.shapes import check_channels, is_channels_last

MAX_LEVELS = 64

_TEXT = r"""
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

constexpr int64_t BLOCK = 2048;  // values that stay in the nearest cache for all comparisons
constexpr int GROUP = 5;        // comparisons of one sweep over them

template <class T, bool TALLY>
static void sweep(const T* x, T* y, int64_t n, const T* between, const T* levels, int count, double* above,
                  double* sum) {
    T t[GROUP], l[GROUP];
    for (int k = 0; k < GROUP; ++k) {
        t[k] = k < count ? between[k] : std::numeric_limits<T>::infinity();
        l[k] = k < count ? levels[k] : T(0);
    }
    using Count = typename std::conditional<sizeof(T) == 4, int32_t, int64_t>::type;  // of the width of a value
    Count c0 = 0, c1 = 0, c2 = 0, c3 = 0, c4 = 0;
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0;
    #pragma omp simd reduction(+ : c0, c1, c2, c3, c4, s0, s1, s2, s3, s4)
    for (int64_t i = 0; i < n; ++i) {
        const T v = x[i];
        const Count u0 = v > t[0], u1 = v > t[1], u2 = v > t[2], u3 = v > t[3], u4 = v > t[4];
        T level = y[i];
        level = u0 ? l[0] : level;
        level = u1 ? l[1] : level;
        level = u2 ? l[2] : level;
        level = u3 ? l[3] : level;
        y[i] = u4 ? l[4] : level;
        if (TALLY) {
            c0 += u0, c1 += u1, c2 += u2, c3 += u3, c4 += u4;
            s0 += u0 ? v : T(0), s1 += u1 ? v : T(0), s2 += u2 ? v : T(0), s3 += u3 ? v : T(0), s4 += u4 ? v : T(0);
        }
    }
    const Count c[GROUP] = {c0, c1, c2, c3, c4};
    const T s[GROUP] = {s0, s1, s2, s3, s4};
    if (TALLY) for (int k = 0; k < count; ++k) above[k] = double(c[k]), sum[k] = s[k];
}

template <class T>
static void nearest(const T* x, T* y, int64_t outer, int64_t channels, int64_t inner, const T* mean, const T* factor,
                    const T* shift, double lower, double upper, const T* between, const T* levels, int64_t step,
                    int count, double* tally, int threads) {
    const int64_t blocks = (inner + BLOCK - 1) / BLOCK, tasks = outer * channels * blocks, width = 2 * (count + 1);
    const T low = T(lower), high = T(upper);
    std::vector<double> partial(tally ? tasks * width : 0);
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < tasks; ++task) {
        const int64_t row = task / blocks, channel = row % channels, start = (task % blocks) * BLOCK;
        const int64_t n = std::min(BLOCK, inner - start);
        const T *in = x + row * inner + start, *t = between + channel * step * count;
        const T* l = levels + channel * step * (count + 1);
        const T m = mean ? mean[channel] : T(0), f = mean ? factor[channel] : T(1), b = mean ? shift[channel] : T(0);
        const T least = l[0];
        T* out = y + row * inner + start;
        T value[BLOCK];
        T all = 0;
        #pragma omp simd reduction(+ : all)
        for (int64_t i = 0; i < n; ++i) {
            T v = (in[i] - m) * f + b;
            v = v < low ? low : v;
            v = v > high ? high : v;
            value[i] = v;
            out[i] = v == v ? least : v;
            all += v;
        }
        double* above = tally ? partial.data() + task * width : nullptr;
        double* sum = tally ? above + count + 1 : nullptr;
        if (tally) above[0] = double(n), sum[0] = all;
        for (int k = 0; k < count; k += GROUP) {
            const int some = std::min(GROUP, count - k);
            if (tally) sweep<T, true>(value, out, n, t + k, l + k + 1, some, above + k + 1, sum + k + 1);
            else sweep<T, false>(value, out, n, t + k, l + k + 1, some, nullptr, nullptr);
        }
    }
    if (!tally) return;
    for (int64_t task = 0; task < tasks; ++task) {  // in order, whatever the number of threads
        double* total = tally + (step ? task / blocks % channels : 0) * width;
        for (int64_t k = 0; k < width; ++k) total[k] += partial[task * width + k];
    }
}

#define NEAREST(NAME, T)                                                                                             \
    extern "C" void NAME(const T* x, T* y, int64_t outer, int64_t channels, int64_t inner, const T* mean,            \
                         const T* factor, const T* shift, double lower, double upper, const T* between,              \
                         const T* levels, int64_t step, int count, double* tally, int threads) {                     \
        nearest(x, y, outer, channels, inner, mean, factor, shift, lower, upper, between, levels, step, count,       \
                tally, threads);                                                                                     \
    }
NEAREST(nearest_float, float)
NEAREST(nearest_double, double)
"""


class Tally(NamedTuple):
    """Of each level, in float64 ``[levels]`` or ``[channels, levels]``.

    Attributes:
        counts: values that it is the nearest level of.
        sums: their sum.
    """

    counts: Tensor
    sums: Tensor


class Nearest:
    """The nearest of a table of levels, as an elementwise definition: the lower one for a value at a mid-point.

    Args:
        levels: of the type of the values, ascending, ``[levels]`` or, along the axis, ``[channels, levels]``.
        passes: has the gradient; what is written is not differentiable by itself.
        tallies: the first `forward` counts too.

    Attributes:
        tally: what it counted.
    """

    def __init__(self, levels: Tensor, passes: Elementwise, *, tallies: bool) -> None:
        self.levels, self.between = levels, (levels[..., 1:] + levels[..., :-1]) / 2
        self.tally: Tally | None = None
        self._passes, self._tallies = passes, tallies

    def forward(
        self,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        before: Before = NOTHING,
    ) -> Tensor:
        """The levels, of the shape of ``x``; NaN for NaN. Parameters and scalars are those of the gradient."""
        tallies, self._tallies = self._tallies, False
        if self.levels.dim() > 1 and axis is not None:
            check_channels(len(self.levels), x, axis)
        run = _compiled(x.dtype) if self._is_small() and takes(x) and build.is_wanted() else None
        if run is None or not x.numel():
            x = before.first(x)
            return self._plain(x if before.clip is None else before.clip(x), axis, tallies)
        if before.gain is not None:
            x = before.first(x)
        affine = before.affine
        along = axis if affine is None else 1
        shape = (1, 1, x.numel())
        if along is not None:
            along %= x.dim()
            shape = (prod(x.shape[:along]), x.shape[along], prod(x.shape[along:][1:]))
        if not x.is_contiguous() and not (along is None and is_channels_last(x)):
            x = x.contiguous()
        y = torch.empty_like(x)
        tables = self.between.contiguous(), self.levels.contiguous()
        width = tables[1].shape[-1]
        kept = [] if affine is None else [p.contiguous() for p in affine]
        vectors: list[int | None] = [p.data_ptr() for p in kept] or [None] * 3
        ends = before.clip or (-inf, inf)
        found = torch.zeros(*self.levels.shape[:-1], 2, width, dtype=torch.float64) if tallies else None
        run(
            x.data_ptr(), y.data_ptr(), *shape, *vectors, *ends, *(t.data_ptr() for t in tables),
            int(self.levels.dim() > 1 and len(self.levels) > 1), width - 1, None if found is None else found.data_ptr(),
            torch.get_num_threads() if x.numel() > SERIAL else 1,
        )  # fmt: skip
        if found is not None:
            found[..., :-1] -= found[..., 1:].clone()  # above a mid-point, less above the next
            self.tally = Tally(found[..., 0, :], found[..., 1, :])
        return y

    def backward(
        self,
        gradient: Tensor,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        before: Before = NOTHING,
    ) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """As `Elementwise.backward`."""
        return self._passes.backward(gradient, x, parameters, scalars, axis=axis, before=before)

    def _is_small(self) -> bool:
        return self.levels.shape[-1] <= MAX_LEVELS

    def _plain(self, x: Tensor, axis: int | None, tallies: bool) -> Tensor:
        """The same by torch operations."""
        rows = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).reshape(x.shape[axis], -1)
        table, between = (t.expand(len(rows), -1).contiguous() for t in (self.levels, self.between))
        rank = torch.searchsorted(between, rows.contiguous())
        y = table.gather(1, rank).where(rows == rows, torch.nan)
        if tallies:
            counts = torch.zeros(table.shape, dtype=torch.float64, device=x.device)
            wide = rows.double()
            sums = counts.scatter_add(1, rank, wide)
            counts.scatter_add_(1, rank, torch.ones_like(wide))
            shape = self.levels.shape  # copies: a compiler lets no view of what it made here out
            self.tally = Tally(counts.view(shape).clone(), sums.view(shape).clone())
        return y.view(x.shape) if axis is None else y.view(x.movedim(axis, 0).shape).movedim(0, axis)


@cache
def _compiled(dtype: torch.dtype) -> Any:
    library = build.library(_TEXT)
    if library is None:
        return None
    run = library.nearest_float if dtype == torch.float32 else library.nearest_double
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    run.restype = None
    run.argtypes = [
        *[pointer] * 2, *[size] * 3, *[pointer] * 3, *[ctypes.c_double] * 2, *[pointer] * 2, size, ctypes.c_int,
        pointer, ctypes.c_int,
    ]  # fmt: skip
    return run
