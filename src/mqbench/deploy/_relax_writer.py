"""A Relax function under construction: its inputs, its parameters, and the arithmetic of integers."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mqbench.deploy._float_convolution import merged_pads
from mqbench.deploy.bias import integer_bias
from mqbench.deploy.program import Combination, Float, Grid, Layer, Operation, Pads, Program, Ref

MAGIC = _ROUND32, _ROUND64 = 1.5 * 2.0**23, 1.5 * 2.0**52  # adding and subtracting them rounds half to even
_EXACT32 = 2.0**22  # what the float32 trick rounds right


@dataclass(frozen=True, kw_only=True)
class RelaxForm:
    """A Relax module, and the arrays that its function ``main`` takes after the network's inputs, in order."""

    module: Any
    parameters: dict[str, Any] = field(default_factory=dict)


class Writer:
    """Tensors are known by name: the program's values, and the parameters of the function."""

    def __init__(self, program: Program) -> None:
        from tvm import relax, tirx

        self.program, self.relax, self.op = program, relax, relax.op
        self.builder: Any = relax.BlockBuilder()
        self.batch = tirx.Var("n", "int64")
        self.values: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.variables: list[Any] = []
        self.merged: dict[str, Pads] = {}

    def write(self, operation: Callable[["Writer", Operation], Any], names: list[str]) -> RelaxForm:
        """The module; ``operation`` emits one and returns what it gives, ``names`` are what ``main`` gives."""
        self.merged = merged_pads(self.program, names)
        inputs = [self._input(name) for name in self.program.inputs]
        # the builder wants parameters before the body; a first pass collects them
        for op in self.program.operations:
            if isinstance(op, Layer):
                self._declare(op)
            elif isinstance(op, Float):
                self._declare_constants(op.args)
        with self.builder.function("main", [*inputs, *self.variables]):
            with self.builder.dataflow():
                for op in self.program.operations:
                    self.values[op.name] = operation(self, op)
                found = self.builder.emit_output(self.relax.Tuple([self.values[name] for name in names]))
            self.builder.emit_func_output(found)
        return RelaxForm(module=self.builder.finalize(), parameters=self.parameters)

    # -- parts ------------------------------------------------------------------------------------------

    def _input(self, name: str) -> Any:
        kind = self.relax.TensorType(self.shape(name), "float32")
        self.values[name] = self.relax.Var(_identifier(name), kind)
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

    def _declare_constants(self, tree: Any) -> None:
        """What a float operation reads besides tensors: a parameter each, once."""
        if isinstance(tree, tuple):
            for item in tree:
                self._declare_constants(item)
        elif isinstance(tree, Ref) and tree.name in self.program.constants and tree.name not in self.values:
            self._parameter(tree.name, self.program.constants[tree.name].float())

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
        """Of a tensor of integers."""
        grid = self.program.grid(name)
        assert grid is not None
        return grid

    def emit(self, expression: Any) -> Any:
        """Append to the function."""
        return self.builder.emit(expression)

    def shape(self, name: str) -> list[Any]:
        """Of a tensor of the program, with the function's variable for the batch."""
        return [self.batch if n is None else n for n in self.program.values[name].shape]

    def constant(self, value: float, kind: str) -> Any:
        """A number."""
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


def _shifts(multiplier: Tensor) -> Tensor | None:
    """n of each M = 2^-n, int32; None unless all are powers of two below one."""
    fraction, exponent = torch.frexp(multiplier)
    shift = 1 - exponent
    return shift.to(torch.int32) if bool((fraction == 0.5).all() and (shift >= 1).all()) else None


def _identifier(name: str) -> str:
    clean = re.sub(r"\W", "_", name)
    return clean if not clean[0].isdigit() else f"layer_{clean}"
