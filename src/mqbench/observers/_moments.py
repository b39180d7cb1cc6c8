"""Range, mean magnitude and moments of the rows of a tensor, by one compiled pass over the data.

Where there is no compiler, the observers do the same with torch operations, to the rounding of a sum. Values are
read from memory once; a piece of them stays in the cache for what needs a second look (deviations from its mean).
"""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mqbench.fused import build
from mqbench.fused.loop import SERIAL, takes

_TEXT = r"""
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int64_t PIECE = 4096;  // values that a thread works on, and that stay in the cache
constexpr int64_t BLOCK = 512;   // values that are added in their own type, before the sum becomes a double
constexpr float LARGE = 1e15f;   // beyond, a square may not be a float
constexpr int32_t INFINITE = 0x7f800000;

float value(int32_t key) {
    key ^= (key >> 31) & 0x7fffffff;
    float x;
    std::memcpy(&x, &key, 4);
    return x;
}

struct Found {
    int32_t low = INFINITE, high = ~INFINITE;
    double number = 0, first = 0, square = 0;  // magnitude: its sum is ``first``

    void join(const Found& other) {  // Chan's formula
        low = std::min(low, other.low), high = std::max(high, other.high);
        const double shift = other.first - first, weight = other.number / (number + other.number);
        square += other.square + shift * shift * number * weight;
        first += shift * weight;
        number += other.number;
    }
};

template <class V> double magnitude(const float* x, int64_t n) {
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = std::min(start + BLOCK, n);
        V sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; ++i) sum += V(std::fabs(x[i]));
        total += sum;
    }
    return total;
}

template <class V> void moments(const float* x, int64_t n, Found& found) {
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = std::min(start + BLOCK, n);
        V sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; ++i) sum += V(x[i]);
        total += sum;
    }
    const V centre = V(total / n);
    double rest = 0, square = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = std::min(start + BLOCK, n);
        V sum = 0, squares = 0;
        #pragma omp simd reduction(+ : sum, squares)
        for (int64_t i = start; i < end; ++i) {
            const V deviation = V(x[i]) - centre;
            sum += deviation;
            squares += deviation * deviation;
        }
        rest += sum, square += squares;
    }
    rest /= n;
    found.first = double(centre) + rest;
    found.square = std::max(square - n * rest * rest, 0.0);
}

Found look(const float* x, int64_t n, int what) {
    Found found;
    found.number = double(n);
    // as integers, floats are in order once the negative ones are mirrored; what is not finite is outermost
    int32_t low = INFINITE, high = ~INFINITE;
    #pragma omp simd reduction(min : low) reduction(max : high)
    for (int64_t i = 0; i < n; ++i) {
        int32_t key;
        std::memcpy(&key, x + i, 4);
        key ^= (key >> 31) & 0x7fffffff;
        low = key < low ? key : low;
        high = key > high ? key : high;
    }
    found.low = low, found.high = high;
    if (high >= INFINITE || low <= ~INFINITE) return found;
    const bool large = std::max(-value(low), value(high)) >= LARGE;
    if (what == 1) found.first = large ? magnitude<double>(x, n) : magnitude<float>(x, n);
    if (what == 2) large ? moments<double>(x, n, found) : moments<float>(x, n, found);
    return found;
}

}  // namespace

extern "C" int look_at(const float* x, int64_t rows, int64_t n, int what, float* range, double* sums, int threads) {
    const int64_t pieces = (n + PIECE - 1) / PIECE, tasks = rows * pieces;
    std::vector<Found> parts(tasks);
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t task = 0; task < tasks; ++task) {
        const int64_t row = task / pieces, start = task % pieces * PIECE;
        parts[task] = look(x + row * n + start, std::min(PIECE, n - start), what);
    }
    for (int64_t row = 0; row < rows; ++row) {
        Found all = parts[row * pieces];
        for (int64_t p = 1; p < pieces; ++p) {
            const Found& part = parts[row * pieces + p];
            if (what == 2) all.join(part);
            else {
                all.low = std::min(all.low, part.low), all.high = std::max(all.high, part.high);
                all.first += part.first;
            }
        }
        if (all.high >= INFINITE || all.low <= ~INFINITE) return 0;
        range[row] = value(all.low), range[rows + row] = value(all.high);
        sums[row] = all.first, sums[rows + row] = all.square;
    }
    return 1;
}
"""


class Kind(IntEnum):
    """What is computed beside the range."""

    RANGE = 0
    MAGNITUDE = 1
    MOMENTS = 2


@dataclass(frozen=True, eq=False)
class Summary:
    """Of each row.

    Attributes:
        lo, hi: smallest and largest value, float32 ``[rows]``; NaN if a value is not finite.
        first: the sum of magnitudes, or the mean, float64 ``[rows]``.
        square: the sum of squared deviations from the mean, float64 ``[rows]``.
    """

    lo: Tensor
    hi: Tensor
    first: Tensor
    square: Tensor


@cache
def _compiled() -> Any:
    library = build.library(_TEXT)
    if library is None:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.look_at.argtypes = [pointer, number, number, ctypes.c_int, pointer, pointer, ctypes.c_int]
    return library.look_at


def summarise(rows: Tensor, kind: Kind) -> Summary | None:
    """Look at float32 ``rows`` [rows, values] once; None where there is no compiled form."""
    if not takes(rows) or rows.dtype != torch.float32 or not build.is_wanted():
        return None
    run = _compiled()
    if run is None:
        return None
    rows = rows.contiguous()
    ends = torch.empty(2, len(rows))
    sums = torch.empty(2, len(rows), dtype=torch.float64)
    threads = torch.get_num_threads() if rows.numel() > SERIAL else 1
    if not run(rows.data_ptr(), *rows.shape, int(kind), ends.data_ptr(), sums.data_ptr(), threads):
        ends.fill_(torch.nan)
    return Summary(ends[0], ends[1], sums[0], sums[1])
