"""Max pooling over two axes, the values and gradients of torch to the bit, in a fraction of its time.

torch compares value by value in a branch; in ResNet-18's step that is one fifteenth of the whole. Here a row of windows
is compared at once. What is kept for the backward pass is where each maximum was, not the input.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench.fused import build
from mqbench.fused.loop import SERIAL, takes

_TEXT = r"""
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

struct Axis {
    int64_t in, out, kernel, stride, padding, dilation;
    // the first place of a window that is inside; torch takes it where nothing is larger than -infinity
    int64_t first(int64_t window) const {
        const int64_t at = window * stride - padding;
        return at < 0 ? at + (-at + dilation - 1) / dilation * dilation : at;
    }
};

// Each row of a plane is laid out as one row for each remainder of the column by the stride, with -infinity around: a
// place of all windows is then one vector of neighbours. Of equal values the first counts, and of NaN the last.
template <class T, class At>
static void forward(const T* x, T* y, At* at, int64_t planes, Axis h, Axis w, int threads) {
    constexpr int64_t LANES = 64 / sizeof(T);
    typedef T Values __attribute__((vector_size(64)));
    typedef At Places __attribute__((vector_size(64)));
    const T nothing = -std::numeric_limits<T>::infinity();
    const int64_t blocks = (w.out + LANES - 1) / LANES, phases = std::min(w.stride, (w.kernel - 1) * w.dilation + 1);
    const int64_t length = blocks * LANES + ((w.kernel - 1) * w.dilation + w.stride - 1) / w.stride;
    std::vector<At> before(blocks * LANES), along(blocks * LANES);  // by window: its first column, and where it lies
    for (int64_t o = 0; o < w.out; ++o) before[o] = At(w.first(o)), along[o] = At(o * w.stride - w.padding);
    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<T> laid(h.in * phases * length, nothing);
        #pragma omp for schedule(static)
        for (int64_t p = 0; p < planes; ++p) {
            for (int64_t phase = 0; phase < phases; ++phase) {
                const int64_t shift = phase - w.padding, begin = shift < 0 ? (-shift + w.stride - 1) / w.stride : 0;
                const int64_t end = std::min(length, (w.in - shift + w.stride - 1) / w.stride);
                for (int64_t row = 0; row < h.in; ++row) {
                    const T* from = x + (p * h.in + row) * w.in + shift;
                    T* to = laid.data() + (row * phases + phase) * length;
                    const auto copy = [&](int64_t stride) __attribute__((always_inline)) {
                        for (int64_t i = begin; i < end; ++i) to[i] = from[i * stride];
                    };
                    w.stride == 1 ? copy(1) : w.stride == 2 ? copy(2) : copy(w.stride);
                }
            }
            for (int64_t row = 0; row < h.out; ++row) {
                const At first = At(h.first(row) * w.in);
                for (int64_t o = 0; o < w.out; o += LANES) {
                    Values best = nothing - Values{};
                    Places found, columns;
                    std::memcpy(&found, before.data() + o, sizeof found);
                    std::memcpy(&columns, along.data() + o, sizeof columns);
                    found += first;
                    for (int64_t k = 0; k < h.kernel; ++k) {
                        const int64_t line = row * h.stride - h.padding + k * h.dilation;
                        if (line < 0 || line >= h.in) continue;
                        for (int64_t j = 0; j < w.kernel; ++j) {
                            const int64_t column = j * w.dilation;
                            const int64_t lane = (line * phases + column % w.stride) * length + column / w.stride;
                            Values v;
                            std::memcpy(&v, laid.data() + lane + o, sizeof v);
                            const auto taken = (v > best) | (v != v);
                            best = taken ? v : best;
                            found = taken ? columns + At(line * w.in + column) : found;
                        }
                    }
                    const int64_t to = (p * h.out + row) * w.out + o, size = std::min(LANES, w.out - o);
                    std::memcpy(y + to, &best, size * sizeof(T));
                    std::memcpy(at + to, &found, size * sizeof(At));
                }
            }
        }
    }
}

template <class T, class At>
static void backward(const T* dy, T* dx, const At* at, int64_t planes, int64_t in, int64_t out, int threads) {
    #pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < planes; ++p) {
        T* to = dx + p * in;
        std::fill(to, to + in, T(0));
        for (int64_t o = p * out; o < (p + 1) * out; ++o) to[at[o]] += dy[o];
    }
}

#define POOLING(NAME, T, AT)                                                                                         \
    extern "C" void NAME##_forward(const T* x, T* y, AT* at, int64_t planes, const int64_t* h, const int64_t* w,     \
                                   int threads) {                                                                    \
        forward(x, y, at, planes, Axis{h[0], h[1], h[2], h[3], h[4], h[5]}, Axis{w[0], w[1], w[2], w[3], w[4], w[5]},\
                threads);                                                                                            \
    }                                                                                                                \
    extern "C" void NAME##_backward(const T* dy, T* dx, const AT* at, int64_t planes, int64_t in, int64_t out,       \
                                    int threads) {                                                                   \
        backward(dy, dx, at, planes, in, out, threads);                                                              \
    }
POOLING(single, float, int32_t)
POOLING(wide, double, int64_t)
"""


def max_pool2d(
    x: Tensor | fx.Proxy,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Tensor:
    """Max pooling as ``torch.ops.aten.max_pool2d``, ``[N, C, H, W]`` or ``[C, H, W]``; errors are torch's."""
    if isinstance(x, fx.Proxy):  # a graph is being unpickled
        window = kernel_size, stride, padding, dilation, ceil_mode
        made: Any = x.tracer.create_proxy("call_function", max_pool2d, (x, *window), {})
        return made
    if not (takes(x) and x.dim() == 4 and x.is_contiguous() and x.numel()) or _compiled(x.dtype) is None:
        return torch.ops.aten.max_pool2d.default(x, kernel_size, stride, padding, dilation, ceil_mode)
    # torch checks the sizes, and says what the output's are, without computing
    shape = torch.ops.aten.max_pool2d.default(
        torch.empty(x.shape, dtype=x.dtype, device="meta"), kernel_size, stride, padding, dilation, ceil_mode
    ).shape
    axes = tuple(
        (
            x.shape[2 + i],
            shape[2 + i],
            *(_of(values, i) for values in (kernel_size, stride or kernel_size, padding, dilation)),
        )
        for i in range(2)
    )
    y: Tensor = _MaxPool.apply(x, shape, axes)
    return y


def _of(values: Sequence[int], axis: int) -> int:
    return values[axis] if len(values) > 1 else values[0]


class _MaxPool(Function):
    """One pass forward, which notes where each maximum was, and one backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: torch.Size, axes: tuple[tuple[int, ...], ...]) -> Tensor:
        y = x.new_empty(shape)
        at = torch.empty(shape, dtype=torch.int32 if x.dtype == torch.float32 else torch.int64)
        threads = torch.get_num_threads() if x.numel() > SERIAL else 1
        sizes = [(ctypes.c_int64 * len(axis))(*axis) for axis in axes]
        _compiled(x.dtype)[0](x.data_ptr(), y.data_ptr(), at.data_ptr(), shape[0] * shape[1], *sizes, threads)
        ctx.save_for_backward(at)
        ctx.input_shape = x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (at,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        dx = gradient.new_empty(ctx.input_shape)
        planes = at.shape[0] * at.shape[1]
        threads = torch.get_num_threads() if dx.numel() > SERIAL else 1
        _compiled(gradient.dtype)[1](
            gradient.data_ptr(), dx.data_ptr(), at.data_ptr(), planes, dx.numel() // planes,
            at.numel() // planes, threads,
        )  # fmt: skip
        return dx, None, None


def _compiled(dtype: torch.dtype) -> Any:
    """The two C functions, or None."""
    return _functions(dtype) if build.is_wanted() else None


@cache
def _functions(dtype: torch.dtype) -> tuple[Any, Any] | None:
    library = build.library(_TEXT)
    if library is None:
        return None
    name = "single" if dtype == torch.float32 else "wide"
    forward, backward = (getattr(library, f"{name}_{way}") for way in ("forward", "backward"))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    forward.restype = backward.restype = None
    forward.argtypes = [*[pointer] * 3, size, *[ctypes.POINTER(size)] * 2, ctypes.c_int]
    backward.argtypes = [*[pointer] * 3, *[size] * 3, ctypes.c_int]
    return forward, backward
