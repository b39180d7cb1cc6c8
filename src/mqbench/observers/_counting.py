"""Counting one row of values in the cells of a histogram, and its range, by one compiled pass.

Where there is no compiler, `Histogram` does the same with torch operations, to the last count.
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mqbench.fused import build
from mqbench.fused.loop import SERIAL, takes

MAX_VALUES = 1 << 31  # the cells of a pass are 32 bits wide

_TEXT = r"""
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int64_t PIECE = 4096;  // values whose cells are found before they are counted
constexpr int LANES = 4;         // neighbours count in different tables: after a ReLU they are often equal

constexpr int32_t INFINITE = 0x7f800000;

float value(int32_t key) {
    key ^= (key >> 31) & 0x7fffffff;
    float x;
    std::memcpy(&x, &key, 4);
    return x;
}

struct Counter {
    int64_t half, size;
    int exponent;
    float lo = std::numeric_limits<float>::infinity(), hi = -lo;
    bool finite = true;
    std::vector<uint32_t> tables;

    Counter(int64_t half, int exponent)
        : half(half), size(2 * half + 1), exponent(exponent), tables(LANES * size, 0) {}

    // double R until it is 2^wanted: cell j becomes sign(j) ceil(|j| / 2^k)
    void grow(int wanted) {
        if (wanted <= exponent) return;
        const int k = std::min(wanted - exponent, 40);
        for (int lane = 0; lane < LANES; ++lane) {
            uint32_t* centre = tables.data() + lane * size + half;
            for (int64_t j = 1; j <= half; ++j) {
                const int64_t merged = (j + (int64_t(1) << k) - 1) >> k;
                const uint32_t above = centre[j], below = centre[-j];
                centre[j] = centre[-j] = 0;
                centre[merged] += above;
                centre[-merged] += below;
            }
        }
        exponent = wanted;
    }

    void add(const float* x, int64_t n) {
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
        finite = finite && high < INFINITE && low > ~INFINITE;
        if (!finite) return;
        lo = std::min(lo, value(low)), hi = std::max(hi, value(high));
        const float most = std::max(-lo, hi);
        int wanted;
        if (std::frexp(most, &wanted) == 0.5f) --wanted;  // 2^k itself still fits in R = 2^k
        if (most > 0) grow(wanted);
        const float per_width = std::ldexp(float(half), -exponent);
        int32_t cell[PIECE];
        const int32_t middle = int32_t(half);
        #pragma omp simd
        for (int64_t i = 0; i < n; ++i) {
            const float place = x[i] * per_width;
            cell[i] = int32_t(std::copysign(std::ceil(std::fabs(place)), place)) + middle;
        }
        uint32_t* table = tables.data();
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES)
            for (int lane = 0; lane < LANES; ++lane) ++table[lane * size + cell[i + lane]];
        for (; i < n; ++i) ++table[cell[i]];
    }
};

}  // namespace

extern "C" int count(const float* x, int64_t n, int64_t half, int least_exponent, int64_t* counts, int* exponent,
                     float* range, int threads) {
    std::vector<Counter> counters(threads, Counter(half, least_exponent));
    const int64_t pieces = (n + PIECE - 1) / PIECE;
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int thread = 0; thread < threads; ++thread)
        for (int64_t p = pieces * thread / threads; p < pieces * (thread + 1) / threads; ++p)
            counters[thread].add(x + p * PIECE, std::min(PIECE, n - p * PIECE));
    *exponent = least_exponent;
    range[0] = std::numeric_limits<float>::infinity(), range[1] = -range[0];
    for (Counter& each : counters) {
        if (!each.finite) return 0;
        *exponent = std::max(*exponent, each.exponent);
        range[0] = std::min(range[0], each.lo), range[1] = std::max(range[1], each.hi);
    }
    std::fill(counts, counts + 2 * half + 1, 0);
    for (Counter& each : counters) {
        each.grow(*exponent);
        for (int lane = 0; lane < LANES; ++lane)
            for (int64_t j = 0; j < each.size; ++j) counts[j] += each.tables[lane * each.size + j];
    }
    return 1;
}
"""


@cache
def _compiled() -> Any:
    library = build.library(_TEXT)
    if library is None:
        return None
    pointer = ctypes.c_void_p
    library.count.argtypes = [
        pointer, ctypes.c_int64, ctypes.c_int64, ctypes.c_int, pointer, pointer, pointer, ctypes.c_int
    ]  # fmt: skip
    return library.count


def count(row: Tensor, half: int, least_exponent: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Counts ``[2 half + 1]`` (int64), exponent of R (int32) and smallest and largest value of a float32 row.

    The range is NaN if a value is not finite. None where there is no compiled form.
    """
    if not takes(row) or row.dtype != torch.float32 or row.numel() >= MAX_VALUES or not build.is_wanted():
        return None
    run = _compiled()
    if run is None:
        return None
    row = row.contiguous()
    counts = torch.empty(2 * half + 1, dtype=torch.int64)
    exponent, ends = torch.empty((), dtype=torch.int32), torch.empty(2)
    threads = torch.get_num_threads() if row.numel() > SERIAL else 1
    finite = run(
        row.data_ptr(), row.numel(), half, least_exponent,
        counts.data_ptr(), exponent.data_ptr(), ends.data_ptr(), threads,
    )  # fmt: skip
    return counts, exponent, ends if finite else ends.fill_(torch.nan)
