"""Writes the operations of a program as ONNX nodes."""

from typing import Any

import numpy as np

from mqbench.deploy.bias import integer_bias
from mqbench.deploy.forms._base import Form
from mqbench.deploy.program import (
    Add,
    Combination,
    Grid,
    Layer,
    Operation,
    Program,
    Weight,
)
from mqbench.errors import IncompatibleError

LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
_TYPES = {"uint8": np.uint8, "int8": np.int8}


class Writer:
    """Collects the nodes and initializers of one file."""

    def __init__(self, program: Program, form: Form, form_name: str, opset: int) -> None:
        import onnx

        self.program, self.form, self.form_name, self.opset = program, form, form_name, opset
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._helper: Any = onnx.helper
        self._numpy: Any = onnx.numpy_helper
        self._written: set[str] = set()
        self._real: dict[str, str] = {}
        self._readers = program.readers()

    # -- parts ------------------------------------------------------------------------------------------

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node, which has its output's name."""
        self.nodes.append(self._helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: Any) -> str:
        """An initializer, written once."""
        if name not in self._written:
            self._written.add(name)
            self.initializers.append(self._numpy.from_array(np.asarray(array), name))
        return name

    def tensor(self, name: str) -> str:
        """The float tensor of a `Ref`: one that is computed, or a constant of the program."""
        if name in self.program.constants:
            return self.constant(name, self.program.constants[name].float().cpu().numpy())
        return self.real(name)

    def real(self, name: str) -> str:
        """A tensor of the program as floats, dequantized if it holds integers."""
        grid = self.program.grid(name)
        if grid is None:
            return name
        if name not in self._real:
            self._real[name] = self.dequantize(name, grid, f"{name}.dequantized")
        return self._real[name]

    def dequantize(self, name: str, grid: Grid, output: str) -> str:
        """A DequantizeLinear of an integer tensor."""
        return self.node("DequantizeLinear", [name, *self.qparams(name, grid)], output)

    def dequantize_as(self, name: str, integers: str, grid: Grid, output: str) -> str:
        """A DequantizeLinear of other integers on the grid of tensor ``name``."""
        return self.node("DequantizeLinear", [integers, *self.qparams(name, grid)], output)

    def container_zero(self, grid: Grid) -> Any:
        """Real zero in the container."""
        kind, offset = self.form.container(grid)
        return np.asarray(grid.zero_point + offset, dtype=_TYPES[kind])

    def qparams(self, name: str, grid: Grid) -> list[str]:
        """Scale and zero point of an activation, as initializers."""
        # 0-d: with shape [1] ONNX Runtime loses fusions
        scale = self.constant(f"{name}.scale", np.asarray(grid.scale, dtype=np.float32))
        return [scale, self.constant(f"{name}.zero_point", self.container_zero(grid))]

    def quantize(
        self, real: str, name: str, output: str, clip: tuple[int, int], bounds: tuple[float, float]
    ) -> None:
        """Floats to the integers of tensor ``name``, with a clip; the result is ``output``."""
        grid = self.program.grid(name)
        assert grid is not None
        if grid.zero_point != 0 and not self.form.activation_zero_points:
            raise IncompatibleError(
                f"form {self.form_name!r} takes symmetric activations only, and {name} has zero point "
                f"{grid.zero_point}"
            )
        kind, offset = self.form.container(grid)
        low, high = (edge + offset for edge in clip)
        if self.form.clip == "float":
            narrow = (grid.quant_min + offset, grid.quant_max + offset) != LIMITS[kind]
            real = self._float_clip(real, output, grid, bounds, narrow)
            self.node("QuantizeLinear", [real, *self.qparams(name, grid)], output)
            return
        behind = output != name or isinstance(self._operation(name), (Layer, Combination))
        if (low, high) == LIMITS[kind] and not (self.form.clip == "always" and behind):
            self.node("QuantizeLinear", [real, *self.qparams(name, grid)], output)
            return
        whole = self.node("QuantizeLinear", [real, *self.qparams(name, grid)], f"{output}.unclipped")
        edges = [
            self.constant(f"{output}.{end}", np.asarray(edge, dtype=_TYPES[kind]))
            for end, edge in (("low", low), ("high", high))
        ]
        self.node("Clip", [whole, *edges], output)

    def is_residual(self, operation: Operation) -> bool:
        """Whether only adds read a tensor."""
        readers = self._readers[operation.name]
        return bool(readers) and all(isinstance(reader, Add) for reader in readers)

    def quantize_in_float(self, real: str, name: str, clip: tuple[int, int]) -> None:
        """Quantize and dequantize by arithmetic on floats: the same values as by a quantizer, which is not dropped."""
        grid = self.program.grid(name)
        assert grid is not None
        kind, offset = self.form.container(grid)
        low, high = (np.float32(edge - grid.zero_point) for edge in clip)
        edges = [self.constant(f"{name}.low", low), self.constant(f"{name}.high", high)]
        scale = self.qparams(name, grid)[0]
        steps = self.node("Round", [self.node("Div", [real, scale], f"{name}.divided")], f"{name}.rounded")
        centred = self.node("Clip", [steps, *edges], f"{name}.centred")
        self._real[name] = self.node("Mul", [centred, scale], f"{name}.dequantized")
        zero = self.constant(f"{name}.container_zero", np.float32(grid.zero_point + offset))
        code = self.node("Add", [centred, zero], f"{name}.code")  # nothing reads it, unless it is watched
        self.node("Cast", [code], name, to=self._helper.np_dtype_to_tensor_dtype(np.dtype(_TYPES[kind])))

    def _float_clip(
        self, real: str, output: str, grid: Grid, bounds: tuple[float, float], narrow: bool
    ) -> str:
        low, high = bounds
        if (
            narrow
        ):  # the grid ends inside the container; where it does not, QuantizeLinear saturates by itself
            low = max(low, (grid.quant_min - grid.zero_point) * grid.scale)
            high = min(high, (grid.quant_max - grid.zero_point) * grid.scale)
            if bounds[0] == 0.0 and grid.zero_point == 0:
                low = 0.0
        if (low, high) == (float("-inf"), float("inf")):
            return real
        if (low, high) == (0.0, float("inf")):
            return self.node("Relu", [real], f"{output}.clipped")
        edges = [
            "" if abs(edge) == float("inf") else self.constant(f"{output}.{end}", np.float32(edge))
            for end, edge in (("low", low), ("high", high))
        ]
        return self.node("Clip", [real, *edges], f"{output}.clipped")

    def _operation(self, name: str) -> Operation | None:
        return next((op for op in self.program.operations if op.name == name), None)

    # -- weights ----------------------------------------------------------------------------------------

    def weight(self, layer: Layer) -> str:
        """The dequantized weight of a layer, its integers stored."""
        weight, name = layer.weight, f"{layer.name}.weight"
        if bool((weight.zero_point != 0).any()) and not self.form.weight_zero_points:
            raise IncompatibleError(
                f"form {self.form_name!r} takes symmetric weights only, and {layer.name} has zero points other than 0"
            )
        integers = self.constant(name, weight_array(weight))
        scale = self.constant(f"{name}.scale", weight.scale.cpu().numpy())
        zeros = weight.zero_point.cpu().numpy().astype(weight_array(weight).dtype)
        zero_point = self.constant(f"{name}.zero_point", np.broadcast_to(zeros, weight.scale.shape).copy())
        axis = {"axis": 0} if weight.scale.dim() else {}
        return self.node("DequantizeLinear", [integers, scale, zero_point], f"{name}.dequantized", **axis)

    def bias(self, layer: Layer) -> list[str]:
        """The bias of a layer as the form wants it; empty without one."""
        if layer.bias is None:
            return []
        name = f"{layer.name}.bias"
        if self.form.bias == "float":
            return [self.constant(name, layer.bias.cpu().numpy())]
        grid = self.program.grid(layer.inputs[0])
        assert grid is not None
        integers = integer_bias(layer, grid)
        assert integers is not None
        stored = self.constant(name, integers.cpu().numpy())
        product = layer.weight.scale.cpu().numpy() * np.float32(grid.scale)
        scale = self.constant(f"{name}.scale", product.astype(np.float32))
        zero_point = self.constant(f"{name}.zero_point", np.zeros(product.shape, dtype=np.int32))
        axis = {"axis": 0} if product.shape else {}
        return [self.node("DequantizeLinear", [stored, scale, zero_point], f"{name}.dequantized", **axis)]


def weight_array(weight: Weight) -> Any:
    """The integers of a weight in an 8-bit array.

    Raises:
        IncompatibleError: they have more than 8 bits.
    """
    if weight.scheme.bits > 8:
        raise IncompatibleError(
            f"8-bit engines take weights of 2 to 8 bits, got {weight.scheme.bits}; prepare the network with fewer bits"
        )
    return weight.integers.cpu().numpy().astype(np.int8 if weight.scheme.signed else np.uint8)
