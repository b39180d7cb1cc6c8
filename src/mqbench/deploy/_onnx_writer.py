"""Writes the operations of a program as ONNX nodes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mqbench.deploy._onnx_float import FLOATS
from mqbench.deploy._onnx_moves import MOVES
from mqbench.deploy.bias import integer_bias
from mqbench.deploy.forms._base import Form
from mqbench.deploy.program import (
    Add,
    Combination,
    Concat,
    Dequantize,
    Float,
    GlobalPool,
    Grid,
    Layer,
    MatMul,
    Move,
    Multiply,
    Operation,
    Pool,
    Program,
    Quantize,
    Ref,
    Weight,
)
from mqbench.errors import IncompatibleError, RequestError

_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
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

    def write(self) -> None:
        """All operations, in order."""
        for operation in self.program.operations:
            _WRITERS[type(operation)](self, operation)

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
            real = self._float_clip(real, output, grid, bounds, (low, high) != _LIMITS[kind])
            self.node("QuantizeLinear", [real, *self.qparams(name, grid)], output)
            return
        behind = output != name or isinstance(self._operation(name), (Layer, Combination))
        if (low, high) == _LIMITS[kind] and not (self.form.clip == "always" and behind):
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
        if narrow:  # the integers end inside the container
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
        x = w.node(
            "DequantizeLinear", [whole, *w.qparams(op.inputs[0], grid)], f"{op.name}.padded.dequantized"
        )
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
    limits = (_LIMITS[kind][0] - offset, _LIMITS[kind][1] - offset)  # values are on the grid already
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
