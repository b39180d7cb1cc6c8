"""Operations that only move integers, as LiteRT's operators; images are channel last there."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mqbench.deploy._arguments import argument, each
from mqbench.deploy._tflite_writer import (
    CHANNEL_FIRST,
    CHANNEL_LAST,
    LOW,
    stored_axis,
    stored_shape,
)
from mqbench.deploy.program import Float, Move
from mqbench.errors import IncompatibleError

if TYPE_CHECKING:
    from mqbench.deploy._tflite_writer import Writer

_EVERYTHING = 2**31 - 1  # an end of a slice that is none


def write_move(w: "Writer", op: Move) -> None:
    """Append what computes a move.

    Raises:
        IncompatibleError: it has no form here.
    """
    name = op.target.split(".")[1]
    if name not in MOVES:
        raise IncompatibleError(f"the LiteRT writer has no {op.target} ({op.name})")
    MOVES[name](w, op)


def _shape(w: "Writer", name: str) -> tuple[int | None, ...]:
    return w.program.values[name].shape


def _reshape(w: "Writer", op: Move | Float) -> None:
    """By way of channel first, whose order of values the program's reshape keeps; not where there is one pixel."""
    (source,) = op.inputs
    before, after = _shape(w, source), _shape(w, op.name)
    if _images(before):
        source = _transposed(w, op, source, CHANNEL_FIRST, f"{op.name}.channel_first", before)
    if _images(after):
        middle = w.value(op.name, called=f"{op.name}.reshaped", shape=after)
        _reshaped(w, op, source, middle, after)
        _transposed(w, op, middle, CHANNEL_LAST, op.name, stored_shape(after))
    else:
        _reshaped(w, op, source, w.value(op.name), stored_shape(after))


def _images(shape: Sequence[int | None]) -> bool:
    """Whether channel first and channel last differ in the order of values."""
    return len(shape) == 4 and math.prod(int(n or 0) for n in shape[2:]) > 1 and shape[1] != 1


def _reshaped(w: "Writer", op: Move | Float, source: str, target: str, shape: Sequence[int | None]) -> None:
    sizes = w.integers(f"{op.name}.shape", [-1 if n is None else n for n in shape])
    w.operator("RESHAPE", [source, sizes], target)


def _transposed(
    w: "Writer", op: Move | Float, source: str, order: Sequence[int], target: str, shape: Sequence[int | None]
) -> str:
    w.operator(
        "TRANSPOSE",
        [source, w.integers(f"{target}.order", order)],
        w.value(op.name, called=target, shape=shape),
        "TransposeOptions",
    )
    return target


def _identity(w: "Writer", op: Move | Float) -> None:
    _reshaped(w, op, op.inputs[0], w.value(op.name), stored_shape(_shape(w, op.name)))


def _max_pool(w: "Writer", op: Move | Float) -> None:
    (source,) = op.inputs
    kernel = each(op.args[1], 2)
    stride = each(argument(op, 2, "stride") or kernel, 2)
    padding = each(argument(op, 3, "padding", 0), 2)
    if max(each(argument(op, 4, "dilation", 1), 2)) > 1:
        raise IncompatibleError(f"LiteRT's maximum pool has no dilation ({op.name})")
    sizes, wanted = _shape(w, source)[2:], _shape(w, op.name)[2:]
    pads = []
    for size, out, k, s, p in zip(sizes, wanted, kernel, stride, padding, strict=True):
        # with ceil_mode the last window may reach beyond the padding
        pads.append((p, max((int(out or 0) - 1) * s + k - int(size or 0) - p, 0)))
    if any(n for ends in pads for n in ends):
        source = _padded_with_lowest(w, op, source, pads)
    w.operator(
        "MAX_POOL_2D", [source], w.value(op.name), "Pool2DOptions", padding=w.schema.Padding.VALID,
        strideH=stride[0], strideW=stride[1], filterHeight=kernel[0], filterWidth=kernel[1],
    )  # fmt: skip


def _padded_with_lowest(w: "Writer", op: Move | Float, source: str, pads: list[tuple[int, int]]) -> str:
    """PAD, which pads with real zero, where no value is smaller; else PADV2 with the smallest there is."""
    grid, called = w.program.grid(op.name), f"{op.name}.padded"
    batch, channels, *sizes = _shape(w, op.inputs[0])
    shape = [batch, *(int(n or 0) + sum(ends) for n, ends in zip(sizes, pads, strict=True)), channels]
    inputs = [source, w.integers(f"{called}.pads", [(0, 0), *pads, (0, 0)])]
    target = w.value(op.name, called=called, shape=shape)
    if w.never_negative(op.inputs[0]):
        w.operator("PAD", inputs, target, "PadOptions")
    else:
        lowest = np.float32(np.finfo(np.float32).min) if grid is None else np.int8(LOW)
        quantization = None if grid is None else w.quantization(grid)
        inputs.append(w.constant(f"{called}.lowest", lowest.reshape(1), quantization))
        w.operator("PADV2", inputs, target, "PadV2Options")
    return called


def _pad(w: "Writer", op: Move | Float) -> None:
    flat, rank = list(op.args[1]), len(_shape(w, op.name))
    others = argument(op, 2, "mode", "constant") != "constant" and op.target.startswith("aten.pad.")
    if others or argument(op, 3 if op.target.startswith("aten.pad.") else 2, "value") or min(flat) < 0:
        raise IncompatibleError(f"the LiteRT writer pads with zero; {op.name} pads by {op.args[2:]}")
    pads = [(0, 0)] * rank
    for place in range(len(flat) // 2):  # torch counts from the last axis
        pads[stored_axis(rank - 1 - place, rank)] = (flat[2 * place], flat[2 * place + 1])
    w.operator("PAD", [op.inputs[0], w.integers(f"{op.name}.pads", pads)], w.value(op.name), "PadOptions")


def _slice(w: "Writer", op: Move | Float) -> None:
    shape = _shape(w, op.inputs[0])
    rank = len(shape)
    axis = argument(op, 1, "dim", 0) % rank
    size, place = shape[axis], stored_axis(axis, rank)
    start, end, step = (argument(op, i, name) for i, name in ((2, "start"), (3, "end"), (4, "step")))
    if size is None:
        if start or (end is not None and end < _EVERYTHING) or (step or 1) != 1:
            raise IncompatibleError(f"the LiteRT writer does not cut the batch ({op.name})")
        _identity(w, op)
        return
    begins, ends, steps = [0] * rank, [0] * rank, [1] * rank
    begins[place] = _clamped(start or 0, size)
    ends[place] = _clamped(size if end is None else end, size)
    steps[place] = step or 1
    everything = sum(1 << n for n in range(rank) if n != place)
    constants = {"begin": begins, "end": ends, "steps": steps}
    inputs = [op.inputs[0], *(w.integers(f"{op.name}.{key}", n) for key, n in constants.items())]
    w.operator(
        "STRIDED_SLICE",
        inputs,
        w.value(op.name),
        "StridedSliceOptions",
        beginMask=everything,
        endMask=everything,
    )


def _clamped(place: int, size: int) -> int:
    return min(max(place + size if place < 0 else place, 0), size)


MOVES: dict[str, Callable[["Writer", Move | Float], None]] = {
    **dict.fromkeys(("alias", "clone", "contiguous", "detach"), _identity),
    **dict.fromkeys(
        ("flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze", "_unsafe_view"), _reshape
    ),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "max_pool2d": _max_pool,
    "slice": _slice,
}
