"""Tensors, buffers and operators of a ``.tflite`` file under construction, by LiteRT's own schema classes.

Integer tensors are int8. A grid's integers are shifted so that its largest one is 127, which an engine's
saturation then clips by itself at any number of bits. Tensors of four axes are stored channel last.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mqbench.deploy._float_convolution import merged_pads
from mqbench.deploy.program import Combination, Float, Grid, Layer, Program
from mqbench.errors import IncompatibleError, RequestError

INSTALL = "pip install 'mqbench[litert]'"
CHANNEL_LAST, CHANNEL_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
LOW, HIGH = -128, 127  # of the container
_IDENTIFIER = b"TFL3"
# the first version of each operator that takes int8; what has floats alone is at its first
_VERSIONS = {
    "ADD": 2, "BATCH_MATMUL": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "DEQUANTIZE": 2,
    "FULLY_CONNECTED": 4, "MAXIMUM": 2, "MAX_POOL_2D": 2, "MEAN": 2, "MINIMUM": 2, "MUL": 2, "PAD": 2, "PADV2": 2,
    "STRIDED_SLICE": 2, "SUB": 2, "TRANSPOSE": 2,
}  # fmt: skip


def schema() -> Any:
    """LiteRT's generated schema.

    Raises:
        RequestError: it is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise RequestError(f"LiteRT's files need ai_edge_litert ({error}): {INSTALL}") from None
    return schema_py_generated


def code_offset(grid: Grid) -> int:
    """What is added to a grid's integers in their int8 container.

    Raises:
        IncompatibleError: the grid has more than 8 bits.
    """
    if grid.quant_max - grid.quant_min > HIGH - LOW:
        raise IncompatibleError(
            f"LiteRT's int8 kernels take activations of 2 to 8 bits, got {grid.scheme.bits}; prepare the network "
            "with fewer bits"
        )
    return HIGH - grid.quant_max


class Writer:
    """One subgraph; tensors are known by name."""

    def __init__(self, program: Program) -> None:
        self.program, self.schema = program, schema()
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[str, int] = {}
        self.buffers: list[Any] = [self.schema.BufferT()]  # the first one is empty by convention
        self.known: dict[str, int] = {}
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        self.merged = merged_pads(program)
        self.makers = {op.name: op for op in program.operations}

    # -- tensors ----------------------------------------------------------------------------------------

    def constant(self, name: str, values: npt.NDArray[Any], quantization: Any = None) -> str:
        """A tensor with data."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), dtype=np.uint8)
        self.buffers.append(buffer)
        return self._tensor(name, values.shape, str(values.dtype), quantization, len(self.buffers) - 1)

    def integers(self, name: str, values: Sequence[Any]) -> str:
        """A constant of int32: axes, shapes, pairs of pads."""
        return self.constant(name, np.asarray(values, dtype=np.int32))

    def number(self, name: str, value: float) -> str:
        """A constant of float32 without axes."""
        return self.constant(name, np.asarray(value, dtype=np.float32))

    def real(self, tensor: Tensor, name: str, order: Sequence[int] = ()) -> str:
        """A constant of float32, its axes in another order."""
        values = array(tensor.float())
        return self.constant(name, values.transpose(order) if order else values)

    def declare(
        self, name: str, shape: Sequence[int | None], grid: Grid | None = None, kind: str = ""
    ) -> str:
        """A tensor that is computed; None in its shape (already channel last) is the batch."""
        quantization = None if grid is None else self.quantization(grid)
        return self._tensor(name, shape, kind or ("float32" if grid is None else "int8"), quantization, 0)

    def value(self, name: str, *, called: str = "", shape: Sequence[int | None] = ()) -> str:
        """The program's tensor of this name, or one like it under another name or of another shape."""
        value = self.program.values[name]
        return self.declare(called or name, shape or stored_shape(value.shape), value.grid)

    def _tensor(
        self, name: str, shape: Sequence[int | None], kind: str, quantization: Any, buffer: int
    ) -> str:
        tensor = self.schema.TensorT()
        tensor.name, tensor.buffer, tensor.hasRank = name.encode(), buffer, True
        tensor.shape = [1 if n is None else n for n in shape]
        if None in shape:
            tensor.shapeSignature = [-1 if n is None else n for n in shape]
        tensor.type = getattr(self.schema.TensorType, kind.upper())
        tensor.quantization = quantization or self.schema.QuantizationParametersT()
        self.known[name], self.shapes[name] = len(self.tensors), tuple(shape)
        self.tensors.append(tensor)
        return name

    def quantization(self, grid: Grid) -> Any:
        """Scale and zero point of an activation."""
        return self.affine([grid.scale], [grid.zero_point + code_offset(grid)])

    def affine(self, scale: Sequence[float], zero_point: Sequence[int], axis: int = 0) -> Any:
        """Scales and zero points of a tensor, along an axis where there are several."""
        found = self.schema.QuantizationParametersT()
        found.scale = np.asarray(scale, dtype=np.float32)
        found.zeroPoint = np.asarray(zero_point, dtype=np.int64)
        found.quantizedDimension = axis
        return found

    def never_negative(self, name: str) -> bool:
        """Whether real zero is the lowest value that a tensor can have, as far as can be told from what makes it."""
        if (grid := self.program.grid(name)) is not None:
            return grid.zero_point == grid.quant_min
        maker = self.makers.get(name)
        if not isinstance(maker, Float):
            return False
        return maker.kind in ("float relu", "float relu6") or (
            maker.kind == "float hardtanh" and len(maker.args) > 1 and bool(maker.args[1] >= 0)
        )

    def grid(self, name: str) -> Grid:
        """The grid of a tensor.

        Raises:
            IncompatibleError: it is float.
        """
        grid = self.program.grid(name)
        if grid is None:
            raise IncompatibleError(f"LiteRT's integer kernels need integers, and {name} is float")
        return grid

    # -- operators --------------------------------------------------------------------------------------

    def operator(
        self, code: str, inputs: Sequence[str], output: str, options: str = "", **fields: Any
    ) -> None:
        """One operator; ``options`` is the name of its options table, with these fields."""
        made = self.schema.OperatorT()
        made.opcodeIndex = self.codes.setdefault(code, len(self.codes))
        made.inputs, made.outputs = [self.known[name] for name in inputs], [self.known[output]]
        if options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            made.builtinOptions = getattr(self.schema, f"{options}T")()
            for name, value in fields.items():
                setattr(made.builtinOptions, name, value)
        self.operators.append(made)

    def requantized(
        self,
        op: Layer | Combination,
        code: str,
        inputs: Sequence[str],
        options: str,
        *,
        fuses: bool = True,
        **fields: Any,
    ) -> None:
        """An operator whose result is clipped: by its fused activation where that is exact, by MAXIMUM and MINIMUM."""
        grid = self.grid(op.name)
        assert op.clip is not None
        low, high = (edge + code_offset(grid) for edge in op.clip)
        zero, kinds = grid.zero_point + code_offset(grid), self.schema.ActivationFunctionType
        chosen, reached = kinds.NONE, (LOW, HIGH)
        if fuses and low == zero and low > LOW:
            six = 6 / grid.scale
            exact = abs(six % 1 - 0.5) > 1e-3  # whichever way an engine rounds it
            chosen, reached = (
                (kinds.RELU6, (zero, high))
                if exact and high == zero + round(six)
                else (kinds.RELU, (zero, HIGH))
            )
        if fuses:
            fields["fusedActivationFunction"] = chosen
        name = self.clipped_into(op.name, (low, high), reached)
        self.operator(code, inputs, name, options, **fields)
        self.clip(op.name, name, (low, high), reached)

    def clipped_into(self, name: str, wanted: tuple[int, int], reached: tuple[int, int]) -> str:
        """The tensor that an operator writes: the program's, or one in front of a clip."""
        return self.value(name, called="" if wanted == reached else f"{name}.unclipped")

    def clip(self, name: str, source: str, wanted: tuple[int, int], reached: tuple[int, int]) -> None:
        """MAXIMUM and MINIMUM between a tensor and the program's, where the range is narrower."""
        ends = [
            ("MAXIMUM", wanted[0], wanted[0] > reached[0]),
            ("MINIMUM", wanted[1], wanted[1] < reached[1]),
        ]
        steps = [(code, edge) for code, edge, needed in ends if needed]
        for place, (code, edge) in enumerate(steps):
            end = self.constant(
                f"{name}.{code.lower()}",
                np.asarray([edge], dtype=np.int8),
                self.quantization(self.grid(name)),
            )
            last = place == len(steps) - 1
            target = self.value(name, called="" if last else f"{name}.{code.lower()}.out")
            self.operator(code, [source, end], target, "MaximumMinimumOptions")
            source = target

    # -- the file ---------------------------------------------------------------------------------------

    def finish(self, outputs: Sequence[str]) -> bytes:
        """The file."""
        graph = self.schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = b"mqbench", self.tensors, self.operators
        graph.inputs = [self.known[name] for name in self.program.inputs]
        graph.outputs = [self.known[name] for name in outputs]
        model = self.schema.ModelT()
        model.version, model.description = 3, b"mqbench"
        model.subgraphs, model.buffers = [graph], self.buffers
        model.operatorCodes = [self._code(name) for name in self.codes]
        return packed(model)

    def _code(self, name: str) -> Any:
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # what readers of older files look at
        code.version = _VERSIONS.get(name, 1)
        return code


def packed(model: Any) -> bytes:
    """A model as the bytes of its file."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def stored_shape(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """A shape of the program as the file has it: four axes are channel last."""
    return tuple(shape[axis] for axis in CHANNEL_LAST) if len(shape) == 4 else tuple(shape)


def stored_axis(axis: int, rank: int) -> int:
    """An axis of the program as the file has it."""
    return CHANNEL_LAST.index(axis % rank) if rank == 4 else axis % rank


def symmetric_weight(layer: Layer) -> npt.NDArray[Any]:
    """Integers less their zero points as int8, which is what LiteRT's kernels take.

    Raises:
        IncompatibleError: they do not fit.
    """
    centred = layer.weight.centred()
    if int(centred.min()) < LOW or int(centred.max()) > HIGH:
        raise IncompatibleError(
            f"LiteRT takes int8 weights without zero points, and {layer.name} has integers from {int(centred.min())} "
            f"to {int(centred.max())} about its zero points; give symmetric weights (`symmetric_weights=True`), or "
            "7-bit weights in such layers (`mqbench.cure`)"
        )
    return array(centred.to(torch.int8))


def array(tensor: Tensor) -> npt.NDArray[Any]:
    """As numpy."""
    found: npt.NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return found
