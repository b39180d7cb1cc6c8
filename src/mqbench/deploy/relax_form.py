"""A `Program` as integers in TVM's Relax: int32 sums, half-even shifts, no front end that could decide otherwise.

Power-of-two multipliers become an arithmetic shift with half-even correction, all others one float32
multiplication whose result is rounded half to even by adding and subtracting 1.5 2^23 (a `round` of Relax is
not half-even on every target). Weights are parameters of the function, so that its text holds no data.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mqbench.deploy.bias import integer_bias
from mqbench.deploy.program import (
    Add,
    Combination,
    Concat,
    Dequantize,
    GlobalPool,
    Grid,
    Layer,
    Move,
    Multiply,
    Operation,
    Program,
    Quantize,
)
from mqbench.errors import IncompatibleError

_ROUND32, _ROUND64 = 1.5 * 2.0**23, 1.5 * 2.0**52
_EXACT32 = 2.0**22  # what the float32 trick rounds right


@dataclass(frozen=True, kw_only=True)
class RelaxForm:
    """A Relax module, and the arrays that its function ``main`` takes after the network's inputs, in order."""

    module: Any
    parameters: dict[str, Any] = field(default_factory=dict)


def relax_form(program: Program, watch: Sequence[str] = ()) -> RelaxForm:
    """Lower to Relax; ``main`` gives a tuple of the outputs, then of the watched tensors.

    Raises:
        IncompatibleError: a float island, or an operation without an integer form here.
    """
    for operation in program.operations:
        if type(operation) not in _WRITERS:
            raise IncompatibleError(
                f"the Relax lowering is all-integer and has no {operation.kind} ({operation.name}); it takes graph 3, "
                "and no functions that stay in float"
            )
    writer = _Writer(program)
    return writer.write([*dict.fromkeys([*program.outputs, *watch])])


class _Writer:
    def __init__(self, program: Program) -> None:
        from tvm import relax, tirx

        self.program, self.relax, self.op = program, relax, relax.op
        self.builder: Any = relax.BlockBuilder()
        self.batch = tirx.Var("n", "int64")
        self.values: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.variables: list[Any] = []

    def write(self, names: list[str]) -> RelaxForm:
        inputs = [self._input(name) for name in self.program.inputs]
        # the builder wants parameters before the body; a first pass collects them
        for operation in self.program.operations:
            if isinstance(operation, Layer):
                self._declare(operation)
        with self.builder.function("main", [*inputs, *self.variables]):
            with self.builder.dataflow():
                for operation in self.program.operations:
                    self.values[operation.name] = _WRITERS[type(operation)](self, operation)
                found = self.builder.emit_output(self.relax.Tuple([self.values[name] for name in names]))
            self.builder.emit_func_output(found)
        return RelaxForm(module=self.builder.finalize(), parameters=self.parameters)

    # -- parts ------------------------------------------------------------------------------------------

    def _input(self, name: str) -> Any:
        shape = [self.batch if size is None else size for size in self.program.values[name].shape]
        self.values[name] = self.relax.Var(_identifier(name), self.relax.TensorType(shape, "float32"))
        return self.values[name]

    def _declare(self, layer: Layer) -> None:
        source = self.grid(layer.inputs[0])
        weight = layer.weight.integers.to(torch.int8 if layer.weight.scheme.signed else torch.int32)
        self._parameter(f"{layer.name}.weight", weight)
        if bool((layer.weight.zero_point != 0).any()):
            self._parameter(
                f"{layer.name}.weight_zero_point", self._along(layer.weight.channel_zero_point, 0, layer)
            )
        bias = integer_bias(layer, source)
        if bias is not None:
            self._parameter(f"{layer.name}.bias", self._along(bias, 1, layer))
        scale = layer.weight.channel_scale
        grid = self.program.grid(layer.name)
        product = torch.tensor(source.scale) * scale
        if grid is None:
            self._parameter(f"{layer.name}.scale", self._along(product, 1, layer))
            return
        multiplier = product / torch.tensor(grid.scale)
        shifts = _shifts(multiplier)
        name = f"{layer.name}.shift" if shifts is not None else f"{layer.name}.multiplier"
        self._parameter(name, self._along(multiplier if shifts is None else shifts, 1, layer))

    def _along(self, vector: Tensor, axis: int, layer: Layer) -> Tensor:
        """A ``[channels]`` vector against the weight (axis 0) or the output (its channel axis)."""
        rank = layer.weight.integers.dim()
        shape = [1] * rank
        shape[axis if axis == 0 or layer.function != "linear" else -1] = -1
        return vector.reshape(shape)

    def _parameter(self, name: str, value: Tensor) -> None:
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        self.parameters[name] = array
        kind = self.relax.TensorType(array.shape, str(array.dtype))
        self.values[name] = self.relax.Var(_identifier(name), kind)
        self.variables.append(self.values[name])

    def grid(self, name: str) -> Grid:
        grid = self.program.grid(name)
        if grid is None:
            raise IncompatibleError(
                f"the Relax lowering is all-integer, and {name} is float; prepare with graph=3"
            )
        return grid

    def emit(self, expression: Any) -> Any:
        return self.builder.emit(expression)

    def constant(self, value: float, kind: str) -> Any:
        return self.relax.const(value, kind)

    def centred(self, name: str) -> Any:
        """integers - zero point, int32."""
        zero = self.grid(name).zero_point
        return self.values[name] if zero == 0 else self.emit(self.values[name] - self.constant(zero, "int32"))

    def rounded(self, real: Any, kind: str = "float32") -> Any:
        """A float tensor rounded half to even, as int32; far outside the grid it saturates."""
        magic = self.constant(_ROUND32 if kind == "float32" else _ROUND64, kind)
        near = self.emit(self.op.clip(real, -_EXACT32 + 1, _EXACT32 - 1))
        up = self.emit(self.op.add(near, magic))
        return self.emit(self.op.astype(self.emit(self.op.subtract(up, magic)), "int32"))

    def shifted(self, acc: Any, shift: Any) -> Any:
        """acc 2^-shift of an int32 sum, half to even, in int64; shift at least 1."""
        one = self.constant(1, "int64")
        wide, by = self.emit(self.op.astype(acc, "int64")), self.emit(self.op.astype(shift, "int64"))
        odd = self.emit(self.op.bitwise_and(self.emit(self.op.right_shift(wide, by)), one))
        half = self.emit(self.op.left_shift(one, self.emit(by - one)))
        moved = self.emit(self.emit(self.emit(wide + half) - one) + odd)
        steps = self.emit(self.op.right_shift(moved, by))
        near = self.emit(self.op.clip(steps, -(2**30), 2**30))
        return self.emit(self.op.astype(near, "int32"))

    def placed(self, steps: Any, operation: Layer | Combination) -> Any:
        """Zero point and clip."""
        assert operation.clip is not None
        zero = self.grid(operation.name).zero_point
        moved = steps if zero == 0 else self.emit(steps + self.constant(zero, "int32"))
        return self.emit(self.op.clip(moved, *operation.clip))

    def scaled(self, acc: Any, multiplier: float) -> Any:
        """rint(float32(acc) M) of an int32 tensor."""
        real = self.emit(self.op.astype(acc, "float32"))
        return self.rounded(self.emit(real * self.constant(multiplier, "float32")))


def _layer(w: _Writer, op: Layer) -> Any:
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


def _quantize(w: _Writer, op: Quantize) -> Any:
    grid = w.grid(op.name)
    steps = w.rounded(w.emit(w.op.divide(w.values[op.inputs[0]], w.constant(grid.scale, "float32"))))
    moved = w.emit(steps + w.constant(grid.zero_point, "int32"))
    return w.emit(w.op.clip(moved, grid.quant_min, grid.quant_max))


def _dequantize(w: _Writer, op: Dequantize) -> Any:
    real = w.emit(w.op.astype(w.centred(op.inputs[0]), "float32"))
    return w.emit(real * w.constant(w.grid(op.inputs[0]).scale, "float32"))


def _add(w: _Writer, op: Add) -> Any:
    """Both ratios of scales in float64, rounded once: exact for power-of-two scales."""
    terms = []
    for name in op.inputs:
        wide = w.emit(w.op.astype(w.centred(name), "float64"))
        terms.append(w.emit(wide * w.constant(w.grid(name).scale / w.grid(op.name).scale, "float64")))
    total = w.emit(w.op.add(*terms) if op.sign > 0 else w.op.subtract(*terms))
    return w.placed(w.rounded(total, "float64"), op)


def _multiply(w: _Writer, op: Multiply) -> Any:
    product = w.emit(w.op.multiply(w.centred(op.inputs[0]), w.centred(op.inputs[1])))
    first, second, own = (torch.tensor(w.grid(name).scale) for name in (*op.inputs, op.name))
    return w.placed(w.scaled(product, float(first * second / own)), op)


def _global_pool(w: _Writer, op: GlobalPool) -> Any:
    (name,) = op.inputs
    sizes = [size for size in w.program.values[name].shape[2:] if size is not None]
    total = w.emit(w.op.sum(w.centred(name), axis=list(range(2, 2 + len(sizes))), keepdims=op.keepdims))
    divisor = torch.tensor(w.grid(op.name).scale) * float(math.prod(sizes))
    return w.placed(w.scaled(total, float(torch.tensor(w.grid(name).scale) / divisor)), op)


def _concat(w: _Writer, op: Concat) -> Any:
    return w.emit(w.op.concat([w.values[name] for name in op.inputs], axis=op.axis))


def _move(w: _Writer, op: Move) -> Any:
    name, x = op.target.split(".")[1], w.values[op.inputs[0]]
    if name in ("view", "reshape", "flatten", "squeeze", "unsqueeze"):
        shape = [w.batch if n is None else n for n in w.program.values[op.name].shape]
        return w.emit(w.op.reshape(x, shape))
    if name == "max_pool2d":
        kernel, stride, padding, dilation, ceil_mode = _pool_options(op.args[1:])
        return w.emit(
            w.op.nn.max_pool2d(
                x, pool_size=kernel, strides=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
            )
        )
    raise IncompatibleError(f"the Relax lowering has no {op.target} ({op.name})")


def _pool_options(args: Sequence[Any]) -> tuple[list[int], list[int], list[int], list[int], bool]:
    """kernel, stride, padding, dilation, ceil_mode, with torch's defaults."""
    given = [[x, x] if isinstance(x, int) and not isinstance(x, bool) else x for x in args]
    kernel = list(given[0])
    stride = list(given[1]) if len(given) > 1 and given[1] else kernel
    padding = list(given[2]) if len(given) > 2 else [0, 0]
    dilation = list(given[3]) if len(given) > 3 else [1, 1]
    return kernel, stride, [*padding, *padding], dilation, bool(given[4]) if len(given) > 4 else False


def _shifts(multiplier: Tensor) -> Tensor | None:
    """n of each M = 2^-n, int32; None unless all are powers of two below one."""
    fraction, exponent = torch.frexp(multiplier)
    shift = 1 - exponent
    return shift.to(torch.int32) if bool((fraction == 0.5).all() and (shift >= 1).all()) else None


def _identifier(name: str) -> str:
    clean = re.sub(r"\W", "_", name)
    return clean if not clean[0].isdigit() else f"layer_{clean}"


_WRITERS: dict[type[Operation], Callable[[_Writer, Any], Any]] = {
    Add: _add,
    Concat: _concat,
    Dequantize: _dequantize,
    GlobalPool: _global_pool,
    Layer: _layer,
    Move: _move,
    Multiply: _multiply,
    Quantize: _quantize,
}
