"""Each kind of operation of a program as ONNX nodes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mqbench.deploy._onnx_float import FLOATS
from mqbench.deploy._onnx_moves import MOVES
from mqbench.deploy._onnx_writer import LIMITS, Writer
from mqbench.deploy.program import (
    Add,
    Combination,
    Concat,
    Dequantize,
    Float,
    GlobalPool,
    Layer,
    MatMul,
    Move,
    Multiply,
    Operation,
    Pool,
    Quantize,
    Ref,
)
from mqbench.errors import RequestError


def write_operations(writer: Writer) -> None:
    """All operations of the writer's program, in order."""
    for operation in writer.program.operations:
        _WRITERS[type(operation)](writer, operation)


def _layer(w: Writer, op: Layer) -> None:
    x = w.real(op.inputs[0])
    inputs = [x, w.weight(op), *w.bias(op)]
    real = op.name if op.clip is None else f"{op.name}.real"
    if op.function == "linear":
        _linear(w, op, inputs, real)
    else:
        w.node(
            "Conv",
            inputs,
            real,
            kernel_shape=list(op.weight.integers.shape[2:]),
            strides=list(op.stride),
            pads=[a for a, _ in op.padding] + [b for _, b in op.padding],
            dilations=list(op.dilation),
            group=op.groups,
        )
    if op.clip is None:
        return
    if w.form.residual == "float" and w.is_residual(op):
        w.quantize_in_float(real, op.name, op.clip)
    else:
        w.quantize(real, op.name, op.name, op.clip, op.bounds)


def _linear(w: Writer, op: Layer, inputs: list[str], real: str) -> None:
    shape = w.program.values[op.inputs[0]].shape
    if len(shape) == 2:
        w.node("Gemm", inputs, real, transB=1)
        return
    rows = w.constant(f"{op.name}.rows", np.asarray([-1, shape[-1]], dtype=np.int64))
    flat = w.node("Reshape", [inputs[0], rows], f"{op.name}.flat")
    out = w.node("Gemm", [flat, *inputs[1:]], f"{op.name}.flat_out", transB=1)
    back = w.constant(f"{op.name}.shape", _reshape(w.program.values[op.name].shape))
    w.node("Reshape", [out, back], real)


def _reshape(shape: tuple[int | None, ...]) -> Any:
    return np.asarray([-1 if n is None else n for n in shape], dtype=np.int64)


def _quantize(w: Writer, op: Quantize) -> None:
    grid = w.program.grid(op.name)
    assert grid is not None
    infinite = (float("-inf"), float("inf"))
    w.quantize(w.real(op.inputs[0]), op.name, op.name, (grid.quant_min, grid.quant_max), infinite)


def _dequantize(w: Writer, op: Dequantize) -> None:
    grid = w.program.grid(op.inputs[0])
    assert grid is not None
    w.dequantize(op.inputs[0], grid, op.name)


def _combination(kind: str) -> Callable[[Writer, Any], None]:
    def write(w: Writer, op: Combination) -> None:
        w.node(kind, [w.real(name) for name in op.inputs], f"{op.name}.real")
        w.quantize(f"{op.name}.real", op.name, op.name, op.clip, op.bounds)

    return write


def _add(w: Writer, op: Add) -> None:
    _combination("Add" if op.sign > 0 else "Sub")(w, op)


def _global_pool(w: Writer, op: GlobalPool) -> None:
    real = w.node("GlobalAveragePool", [w.real(op.inputs[0])], f"{op.name}.real")
    if op.keepdims:
        w.quantize(real, op.name, op.name, op.clip, op.bounds)
        return
    shape = w.constant(f"{op.name}.shape", _reshape(w.program.values[op.name].shape))
    if w.form.integer_moves:
        w.quantize(real, op.name, f"{op.name}.kept", op.clip, op.bounds)
        w.node("Reshape", [f"{op.name}.kept", shape], op.name)
    else:
        flat = w.node("Reshape", [real, shape], f"{op.name}.flat")
        w.quantize(flat, op.name, op.name, op.clip, op.bounds)


def _pool(w: Writer, op: Pool) -> None:
    x, padding = w.real(op.inputs[0]), op.padding
    if any(padding) and op.count_include_pad and not op.ceil_mode and not w.form.padded_pools:
        grid = w.program.grid(op.inputs[0])
        assert grid is not None
        edges = w.constant(f"{op.name}.edges", np.asarray([0, 0, *padding, 0, 0, *padding], dtype=np.int64))
        zero = w.constant(f"{op.name}.zero", w.container_zero(grid))
        whole = w.node("Pad", [op.inputs[0], edges, zero], f"{op.name}.padded")
        x = w.dequantize_as(op.inputs[0], whole, grid, f"{op.name}.padded.dequantized")
        padding = (0,) * len(padding)
    w.node(
        "AveragePool",
        [x],
        f"{op.name}.real",
        kernel_shape=list(op.kernel),
        strides=list(op.stride),
        pads=[*padding, *padding],
        ceil_mode=int(op.ceil_mode),
        count_include_pad=int(op.count_include_pad),
    )
    w.quantize(f"{op.name}.real", op.name, op.name, op.clip, op.bounds)


def _concat(w: Writer, op: Concat) -> None:
    if w.form.integer_moves:
        w.node("Concat", list(op.inputs), op.name, axis=op.axis)
        return
    w.node("Concat", [w.real(name) for name in op.inputs], f"{op.name}.real", axis=op.axis)
    _requantize(w, op)


def _move(w: Writer, op: Move) -> None:
    write = MOVES.get(op.target.split(".")[1])
    if write is None:
        raise RequestError(f"{op.name}: {op.target} has no ONNX form")
    grid = w.program.grid(op.name)
    assert grid is not None
    if w.form.integer_moves:
        write(w, op, op.inputs[0], op.name, w.container_zero(grid))
        return
    write(w, op, w.real(op.inputs[0]), f"{op.name}.real", np.float32(0))
    _requantize(w, op)


def _requantize(w: Writer, op: Operation) -> None:
    grid = w.program.grid(op.name)
    assert grid is not None
    kind, offset = w.form.container(grid)
    limits = (LIMITS[kind][0] - offset, LIMITS[kind][1] - offset)  # values are on the grid already
    w.quantize(f"{op.name}.real", op.name, op.name, limits, (float("-inf"), float("inf")))


def _float(w: Writer, op: Float) -> None:
    name = op.target.split(".")[1]
    if name in FLOATS:
        FLOATS[name](w, op)
    elif name in MOVES:
        first: Any = op.args[0]
        assert isinstance(first, Ref)
        MOVES[name](w, op, w.tensor(first.name), op.name, None)
    else:
        raise RequestError(f"{op.name}: {op.target} has no ONNX form")


_WRITERS: dict[type[Operation], Callable[[Writer, Any], None]] = {
    Add: _add,
    Concat: _concat,
    Dequantize: _dequantize,
    Float: _float,
    GlobalPool: _global_pool,
    Layer: _layer,
    MatMul: _combination("MatMul"),
    Move: _move,
    Multiply: _combination("Mul"),
    Pool: _pool,
    Quantize: _quantize,
}
