"""The values of each channel in even bins, by one compiled pass: their number, and their distance from the centres.

Weights have thousands of channels of some hundred values each, for which torch's own counting spends its time on
indices. Where there is no compiler, the searches do the same with torch operations.
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mqbench.fused import build
from mqbench.fused.loop import SERIAL, takes

_TEXT = r"""
#include <algorithm>
#include <cstdint>
#include <cstring>

constexpr int64_t PIECE = 1024;  // values whose bins are found before they are counted

extern "C" void number(const float* x, int64_t rows, int64_t n, const double* per_width, const double* offset,
                       int64_t bins, int32_t* counts, int threads) {
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; ++row) {
        const double factor = per_width[row], shift = offset[row], most = double(bins);
        int32_t* count = counts + row * (bins + 1);
        std::memset(count, 0, sizeof(int32_t) * (bins + 1));
        int32_t cell[PIECE];
        for (int64_t start = 0; start < n; start += PIECE) {
            const float* piece = x + row * n + start;
            const int64_t size = std::min(PIECE, n - start);
            #pragma omp simd
            for (int64_t i = 0; i < size; ++i) {
                double place = double(piece[i]) * factor + shift;
                place = place < 1.0 ? 1.0 : place;
                place = place > most ? most : place;
                cell[i] = piece[i] == 0.0f ? 0 : int32_t(place);
            }
            for (int64_t i = 0; i < size; ++i) ++count[cell[i]];
        }
        count[0] = 0;
    }
}

extern "C" void spread(const float* x, int64_t rows, int64_t n, const float* per_bin, const float* offset,
                       int64_t bins, float* features, double* squares, int threads) {
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < rows; ++row) {
        const float factor = per_bin[row], shift = offset[row], most = float(bins) - 1e-4f;
        float *number = features + row * 2 * bins, *distance = number + bins;
        std::memset(number, 0, sizeof(float) * 2 * bins);
        double total = 0;
        int32_t cell[PIECE];
        float away[PIECE];
        for (int64_t start = 0; start < n; start += PIECE) {
            const float* piece = x + row * n + start;
            const int64_t size = std::min(PIECE, n - start);
            float sum = 0;
            #pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < size; ++i) {
                float place = piece[i] * factor + shift;
                place = place < 0.0f ? 0.0f : place;
                place = place > most ? most : place;
                cell[i] = int32_t(place);
                away[i] = (place - float(cell[i])) - 0.5f;
                sum += away[i] * away[i];
            }
            total += sum;
            for (int64_t i = 0; i < size; ++i) {
                number[cell[i]] += 1.0f;
                distance[cell[i]] += away[i];
            }
        }
        squares[row] = total;
    }
}

template <class V>
void squared(const float* x, int64_t n, V factor, V shift, V least, V most, double& total) {
    for (int64_t start = 0; start < n; start += PIECE) {
        const float* piece = x + start;
        const int64_t size = std::min(PIECE, n - start);
        V sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < size; ++i) {
            const V place = V(piece[i]) * factor + shift;
            V level = place < least ? least : place;
            level = level > most ? most : level;
            const V error = (sizeof(V) == 4 ? V(__builtin_rintf(float(level))) : V(__builtin_rint(level))) - place;
            sum += error * error;
        }
        total += sum;
    }
}

extern "C" void rounding(const float* x, int64_t n, const int64_t* channel, int64_t pairs, const double* per_scale,
                         const double* zero_point, double least, double most, int exact, double* error, int threads) {
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t pair = 0; pair < pairs; ++pair) {
        const float* row = x + channel[pair] * n;
        error[pair] = 0;
        if (exact) squared<double>(row, n, per_scale[pair], zero_point[pair], least, most, error[pair]);
        else squared<float>(row, n, per_scale[pair], zero_point[pair], least, most, error[pair]);
    }
}
"""

MAX_VALUES = 1 << 24  # of a row: their number is still a float32


@cache
def _compiled() -> Any:
    library = build.library(_TEXT)
    if library is None:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.number.argtypes = [pointer, size, size, pointer, pointer, size, pointer, ctypes.c_int]
    library.spread.argtypes = [pointer, size, size, pointer, pointer, size, pointer, pointer, ctypes.c_int]
    library.rounding.argtypes = [
        pointer, size, pointer, size, pointer, pointer, ctypes.c_double, ctypes.c_double, ctypes.c_int, pointer,
        ctypes.c_int,
    ]  # fmt: skip
    return library


def _library_for(rows: Tensor) -> Any:
    fits = takes(rows) and rows.dtype == torch.float32 and rows.shape[1] < MAX_VALUES
    return _compiled() if fits and build.is_wanted() else None


def number_in_bins(rows: Tensor, per_width: Tensor, offset: Tensor, bins: int) -> Tensor | None:
    """How many values x other than 0 have int(x per_width + offset) = 1 .. bins, int32 ``[rows, bins + 1]``.

    What lies beyond joins the outermost bin. None where there is no compiled form.

    Args:
        rows: float32 ``[rows, values]``.
        per_width, offset: float64 ``[rows]``.
        bins: their number; bin 0 stays empty.
    """
    library = _library_for(rows)
    if library is None:
        return None
    rows, per_width, offset = rows.contiguous(), per_width.contiguous(), offset.contiguous()
    counts = torch.empty(len(rows), bins + 1, dtype=torch.int32)
    library.number(
        rows.data_ptr(), *rows.shape, per_width.data_ptr(), offset.data_ptr(), bins, counts.data_ptr(),
        _threads(rows),
    )  # fmt: skip
    return counts


def spread_in_bins(rows: Tensor, per_bin: Tensor, offset: Tensor, bins: int) -> tuple[Tensor, Tensor] | None:
    """Of the values with int(x per_bin + offset) = 0 .. bins - 1, what lies beyond brought to the edge.

    Returns:
        Their number in each bin and the sum of their distances from its centre, in bins, ``[rows, 2 bins]``;
        and the sum of squares of all distances, float64 ``[rows]``. None where there is no compiled form.
    """
    library = _library_for(rows)
    if library is None:
        return None
    rows, per_bin, offset = rows.contiguous(), per_bin.float().contiguous(), offset.float().contiguous()
    features = torch.empty(len(rows), 2 * bins)
    squares = torch.empty(len(rows), dtype=torch.float64)
    library.spread(
        rows.data_ptr(), *rows.shape, per_bin.data_ptr(), offset.data_ptr(), bins, features.data_ptr(),
        squares.data_ptr(), _threads(rows),
    )  # fmt: skip
    return features, squares


def rounding_error(
    rows: Tensor, channel: Tensor, scale: Tensor, zero_point: Tensor, grid: tuple[int, int], exact: bool
) -> Tensor | None:
    """Squared error of rounding to a grid, in its steps, summed over the values of ``channel`` of each pair.

    Args:
        rows: float32 ``[channels, values]``.
        channel: int64 ``[pairs]``.
        scale, zero_point: float64 ``[pairs]``.
        grid: smallest and largest integer.
        exact: in float64 (float32 tells x/s to a ten-thousandth for grids of up to 8 bits).

    Returns:
        float64 ``[pairs]``, or None where there is no compiled form.
    """
    library = _library_for(rows)
    if library is None:
        return None
    rows, channel, per_scale = rows.contiguous(), channel.contiguous(), scale.reciprocal().contiguous()
    zero_point = zero_point.double().contiguous()
    error = torch.empty(len(channel), dtype=torch.float64)
    library.rounding(
        rows.data_ptr(), rows.shape[1], channel.data_ptr(), len(channel), per_scale.data_ptr(),
        zero_point.data_ptr(), *grid, exact, error.data_ptr(), _threads(rows),
    )  # fmt: skip
    return error


def _threads(rows: Tensor) -> int:
    return torch.get_num_threads() if rows.numel() > SERIAL else 1
