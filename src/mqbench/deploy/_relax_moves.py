"""Operations that only move values, in Relax; they work on integer and on float tensors."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mqbench.deploy._arguments import argument, each
from mqbench.deploy.program import Float, Move
from mqbench.errors import IncompatibleError

if TYPE_CHECKING:
    from mqbench.deploy._relax_writer import Writer

# (writer, operation, input tensor, real zero in the container) -> what it gives
Write = Callable[["Writer", "Move | Float", Any, int], Any]


def _identity(_w: "Writer", _op: Move | Float, x: Any, _zero: int) -> Any:
    return x


def _reshape(w: "Writer", op: Move | Float, x: Any, _zero: int) -> Any:
    return w.emit(w.op.reshape(x, w.shape(op.name)))


def _transpose(w: "Writer", op: Move | Float, x: Any, _zero: int) -> Any:
    order = list(range(len(w.program.values[op.name].shape)))
    name = op.target.split(".")[1]
    if name == "permute":
        order = [axis % len(order) for axis in argument(op, 1, "dims")]
    else:
        first, second = (-1, -2) if name in ("t", "mT", "numpy_T") else op.args[1:3]
        order[first], order[second] = order[second], order[first]
    return w.emit(w.op.permute_dims(x, order))


def _max_pool(w: "Writer", op: Move | Float, x: Any, _zero: int) -> Any:
    spatial = int(op.target.split(".")[1][-2])
    kernel, padding = each(op.args[1], spatial), each(argument(op, 3, "padding", 0), spatial)
    pool = getattr(w.op.nn, f"max_pool{spatial}d")
    return w.emit(
        pool(
            x,
            pool_size=kernel,
            strides=each(argument(op, 2, "stride") or kernel, spatial),
            padding=[*padding, *padding],
            dilation=each(argument(op, 4, "dilation", 1), spatial),
            ceil_mode=bool(argument(op, 5, "ceil_mode", False)),
        )
    )


def _pad(w: "Writer", op: Move | Float, x: Any, zero: int) -> Any:
    flat, rank = list(op.args[1]), len(w.program.values[op.name].shape)
    place = 2
    if op.target.startswith("aten.pad."):
        place = 3
        if argument(op, 2, "mode", "constant") != "constant":
            raise IncompatibleError(
                f"the Relax lowering pads with a constant; {op.name} pads by {op.args[2]}"
            )
    pads = [0, 0] * rank
    for axis in range(len(flat) // 2):  # torch counts from the last axis
        pads[2 * (rank - 1 - axis) : 2 * (rank - axis)] = flat[2 * axis : 2 * axis + 2]
    fill = (argument(op, place, "value") or 0.0) if isinstance(op, Float) else zero
    return w.emit(w.op.nn.pad(x, pads, pad_value=fill))


def _slice(w: "Writer", op: Move | Float, x: Any, _zero: int) -> Any:
    shape = w.program.values[op.inputs[0]].shape
    axis = argument(op, 1, "dim", 0) % len(shape)
    size = shape[axis]
    start, end, step = (argument(op, i, name) for i, name in ((2, "start"), (3, "end"), (4, "step")))
    if size is None:
        if start or (end is not None and end < 2**31 - 1) or (step or 1) != 1:
            raise IncompatibleError(f"the Relax lowering does not cut the batch ({op.name})")
        return x
    first, last = (
        place + size if place < 0 else place for place in (start or 0, size if end is None else end)
    )
    return w.emit(w.op.strided_slice(x, [axis], [first], [min(last, size)], [step or 1]))


MOVES: dict[str, Write] = {
    **dict.fromkeys(("alias", "clone", "contiguous", "detach"), _identity),
    **dict.fromkeys(
        ("flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze", "_unsafe_view"), _reshape
    ),
    **dict.fromkeys(("permute", "transpose", "t", "mT", "numpy_T", "swapaxes"), _transpose),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _max_pool),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "slice": _slice,
}
