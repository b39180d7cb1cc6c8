"""Operations that only move values, as ONNX nodes; they work on integer and on float tensors."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mqbench.deploy._arguments import argument, each
from mqbench.deploy.program import Float, Move

if TYPE_CHECKING:
    from mqbench.deploy._onnx_writer import Writer

# (writer, operation, input tensor, output tensor, real zero in the container)
Write = Callable[["Writer", "Move | Float", str, str, Any], None]
INT64_MAX = 2**63 - 1


def _integers(w: "Writer", name: str, values: list[int]) -> str:
    return w.constant(name, np.asarray(values, dtype=np.int64))


def _reshape(w: "Writer", op: Move | Float, x: str, out: str, _zero: Any) -> None:
    shape = [-1 if n is None else n for n in w.program.values[op.name].shape]
    w.node("Reshape", [x, _integers(w, f"{op.name}.shape", shape)], out)


def _identity(w: "Writer", _op: Move | Float, x: str, out: str, _zero: Any) -> None:
    w.node("Identity", [x], out)


def _rank(w: "Writer", op: Move | Float) -> int:
    return len(w.program.values[op.inputs[0]].shape)


def _transpose(w: "Writer", op: Move | Float, x: str, out: str, _zero: Any) -> None:
    order = list(range(_rank(w, op)))
    name = op.target.split(".")[1]
    if name in ("permute",):
        order = [axis % len(order) for axis in argument(op, 1, "dims")]
    else:
        first, second = (-1, -2) if name in ("t", "mT", "numpy_T") else op.args[1:3]
        order[first], order[second] = order[second], order[first]
    w.node("Transpose", [x], out, perm=order)


def _slice(w: "Writer", op: Move | Float, x: str, out: str, _zero: Any) -> None:
    axis = argument(op, 1, "dim", 0) % _rank(w, op)
    start, end = argument(op, 2, "start") or 0, argument(op, 3, "end")
    numbers = {
        "start": start,
        "end": INT64_MAX if end is None else end,
        "axis": axis,
        "step": argument(op, 4, "step", 1),
    }
    w.node("Slice", [x, *(_integers(w, f"{op.name}.{key}", [n]) for key, n in numbers.items())], out)


def _select(w: "Writer", op: Move | Float, x: str, out: str, _zero: Any) -> None:
    index = w.constant(f"{op.name}.index", np.asarray(op.args[2], dtype=np.int64))
    w.node("Gather", [x, index], out, axis=op.args[1] % _rank(w, op))


def _max_pool(w: "Writer", op: Move | Float, x: str, out: str, _zero: Any) -> None:
    spatial = int(op.target.split(".")[1][-2])
    kernel = each(op.args[1], spatial)
    padding = each(argument(op, 3, "padding", 0), spatial)
    w.node(
        "MaxPool",
        [x],
        out,
        kernel_shape=kernel,
        strides=each(argument(op, 2, "stride") or kernel, spatial),
        pads=[*padding, *padding],
        dilations=each(argument(op, 4, "dilation", 1), spatial),
        ceil_mode=int(argument(op, 5, "ceil_mode", False)),
    )


def _pad(w: "Writer", op: Move | Float, x: str, out: str, zero: Any) -> None:
    flat, rank = list(op.args[1]), _rank(w, op)
    before, after = [0] * rank, [0] * rank
    for place in range(len(flat) // 2):  # torch counts from the last axis
        before[rank - 1 - place], after[rank - 1 - place] = flat[2 * place : 2 * place + 2]
    inputs = [x, _integers(w, f"{op.name}.pads", before + after)]
    if zero is None:
        place = 3 if op.target.startswith("aten.pad.") else 2
        zero = np.float32(argument(op, place, "value", 0.0) or 0.0)
    mode = argument(op, 2, "mode", "constant") if op.target.startswith("aten.pad.") else "constant"
    if mode == "constant":
        inputs.append(w.constant(f"{op.name}.fill", zero))
    w.node("Pad", inputs, out, mode={"replicate": "edge"}.get(mode, mode))


def _expand(w: "Writer", op: Move | Float, x: str, out: str, _zero: Any) -> None:
    shape = [1 if n is None else n for n in w.program.values[op.name].shape]
    w.node("Expand", [x, _integers(w, f"{op.name}.shape", shape)], out)


def _repeat(w: "Writer", op: Move | Float, x: str, out: str, _zero: Any) -> None:
    w.node("Tile", [x, _integers(w, f"{op.name}.repeats", list(op.args[1]))], out)


MOVES: dict[str, Write] = {
    **dict.fromkeys(("alias", "clone", "contiguous", "detach"), _identity),
    **dict.fromkeys(
        ("flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze", "_unsafe_view"), _reshape
    ),
    **dict.fromkeys(("permute", "transpose", "t", "mT", "numpy_T", "swapaxes"), _transpose),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _max_pool),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "expand": _expand,
    "repeat": _repeat,
    "select": _select,
    "slice": _slice,
}
