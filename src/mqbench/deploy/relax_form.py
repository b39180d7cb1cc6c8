"""A `Program` in TVM's Relax: int32 sums, half-even shifts, no front end that could decide otherwise.

Power-of-two multipliers become an arithmetic shift with half-even correction, all others one float32
multiplication whose result is rounded half to even by adding and subtracting 1.5 2^23 (a `round` of Relax is
not half-even on every target). Weights are parameters of the function, so that its text holds no data.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mqbench.deploy._relax_float import write_float
from mqbench.deploy._relax_moves import MOVES
from mqbench.deploy._relax_writer import RelaxForm as RelaxForm
from mqbench.deploy._relax_writer import Writer
from mqbench.deploy.program import (
    Add,
    Concat,
    Dequantize,
    Float,
    GlobalPool,
    Layer,
    Move,
    Multiply,
    Operation,
    Program,
    Quantize,
)
from mqbench.errors import IncompatibleError


def relax_form(program: Program, watch: Sequence[str] = ()) -> RelaxForm:
    """Lower to Relax; ``main`` gives a tuple of the outputs, then of the watched tensors.

    Raises:
        IncompatibleError: an operation has no form here; the message names it.
    """
    return Writer(program).write(_write, [*dict.fromkeys([*program.outputs, *watch])])


def _write(w: Writer, op: Operation) -> Any:
    if type(op) not in _WRITERS:
        raise IncompatibleError(f"the Relax lowering has no {op.kind} ({op.name})")
    return _WRITERS[type(op)](w, op)


def _layer(w: Writer, op: Layer) -> Any:
    weight = w.emit(w.op.astype(w.values[f"{op.name}.weight"], "int32"))
    if f"{op.name}.weight_zero_point" in w.values:
        weight = w.emit(weight - w.values[f"{op.name}.weight_zero_point"])
    x = w.centred(op.inputs[0])
    if op.function == "linear":
        acc = w.emit(w.op.matmul(x, w.emit(w.op.permute_dims(weight)), out_dtype="int32"))
    elif op.function == "conv2d":
        before, after = zip(*op.padding, strict=True)
        acc = w.emit(
            w.op.nn.conv2d(
                x, weight, strides=list(op.stride), padding=[*before, *after], dilation=list(op.dilation),
                groups=op.groups, out_dtype="int32",
            )
        )  # fmt: skip
    else:
        raise IncompatibleError(f"the Relax lowering has conv2d and linear; {op.name} is {op.function}")
    if f"{op.name}.bias" in w.values:
        acc = w.emit(acc + w.values[f"{op.name}.bias"])
    if f"{op.name}.shift" in w.values:
        return w.placed(w.shifted(acc, w.values[f"{op.name}.shift"]), op)
    real = w.emit(w.op.astype(acc, "float32"))
    if f"{op.name}.scale" in w.values:
        return w.emit(real * w.values[f"{op.name}.scale"])
    return w.placed(w.rounded(w.emit(real * w.values[f"{op.name}.multiplier"])), op)


def _quantize(w: Writer, op: Quantize) -> Any:
    grid = w.grid(op.name)
    steps = w.rounded(w.emit(w.op.divide(w.values[op.inputs[0]], w.constant(grid.scale, "float32"))))
    moved = w.emit(steps + w.constant(grid.zero_point, "int32"))
    return w.emit(w.op.clip(moved, grid.quant_min, grid.quant_max))


def _dequantize(w: Writer, op: Dequantize) -> Any:
    real = w.emit(w.op.astype(w.centred(op.inputs[0]), "float32"))
    return w.emit(real * w.constant(w.grid(op.inputs[0]).scale, "float32"))


def _add(w: Writer, op: Add) -> Any:
    """Both ratios of scales in float64, rounded once: exact for power-of-two scales."""
    terms = []
    for name in op.inputs:
        wide = w.emit(w.op.astype(w.centred(name), "float64"))
        terms.append(w.emit(wide * w.constant(w.grid(name).scale / w.grid(op.name).scale, "float64")))
    total = w.emit(w.op.add(*terms) if op.sign > 0 else w.op.subtract(*terms))
    return w.placed(w.rounded(total, "float64"), op)


def _multiply(w: Writer, op: Multiply) -> Any:
    product = w.emit(w.op.multiply(w.centred(op.inputs[0]), w.centred(op.inputs[1])))
    first, second, own = (torch.tensor(w.grid(name).scale) for name in (*op.inputs, op.name))
    return w.placed(w.scaled(product, float(first * second / own)), op)


def _global_pool(w: Writer, op: GlobalPool) -> Any:
    (name,) = op.inputs
    sizes = [size for size in w.program.values[name].shape[2:] if size is not None]
    total = w.emit(w.op.sum(w.centred(name), axis=list(range(2, 2 + len(sizes))), keepdims=op.keepdims))
    divisor = torch.tensor(w.grid(op.name).scale) * float(math.prod(sizes))
    return w.placed(w.scaled(total, float(torch.tensor(w.grid(name).scale) / divisor)), op)


def _concat(w: Writer, op: Concat) -> Any:
    return w.emit(w.op.concat([w.values[name] for name in op.inputs], axis=op.axis))


def _move(w: Writer, op: Move) -> Any:
    name = op.target.split(".")[1]
    if name not in MOVES:
        raise IncompatibleError(f"the Relax lowering has no {op.target} ({op.name})")
    return MOVES[name](w, op, w.values[op.inputs[0]], w.grid(op.name).zero_point)


_WRITERS: dict[type[Operation], Callable[[Writer, Any], Any]] = {
    Add: _add,
    Concat: _concat,
    Dequantize: _dequantize,
    Float: write_float,
    GlobalPool: _global_pool,
    Layer: _layer,
    Move: _move,
    Multiply: _multiply,
    Quantize: _quantize,
}
