"""The float network of a program: the same operations and weights without any quantizer.

It is what latency is compared with, and the file that libraries take whose sidecar names the quantization
apart (SNPE, Ascend). Weights are the dequantized ones, so that such a library finds the very same integers.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

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
    Pads,
    Pool,
    Program,
    Quantize,
    Ref,
    Value,
)
from mqbench.errors import RequestError

_UNBOUNDED = (float("-inf"), float("inf"))


@dataclass(frozen=True, kw_only=True)
class FloatNetwork:
    """A program of float operations alone.

    Args:
        program: it.
        names: of each tensor of the quantized program, the float tensor that holds its real value.
        weights, biases: of each layer, the names of its constants (no entry without a bias).
    """

    program: Program
    names: dict[str, str]
    weights: dict[str, str]
    biases: dict[str, str]


def float_network(program: Program) -> FloatNetwork:
    """Take every quantizer out of a program; its tensors are shared, its names kept where they can be.

    An operation keeps its name; where a clip (ReLU, ReLU6) was folded into it, the clipped tensor is
    ``NAME.clipped``.
    """
    return _Writer(program).run()


class _Writer:
    def __init__(self, program: Program) -> None:
        self.source = program
        self.operations: list[Operation] = []
        self.values = {name: replace(program.values[name], grid=None) for name in program.inputs}
        self.constants: dict[str, Tensor] = dict(program.constants)
        self.names: dict[str, str] = {name: name for name in program.inputs}
        self.weights: dict[str, str] = {}
        self.biases: dict[str, str] = {}

    def run(self) -> FloatNetwork:
        for operation in self.source.operations:
            self._write(operation)
        program = Program(
            operations=tuple(self.operations),
            values=self.values,
            inputs=self.source.inputs,
            outputs=tuple(self.names[name] for name in self.source.outputs),
            constants=self.constants,
            description=dict(self.source.description),
        )
        return FloatNetwork(program=program, names=self.names, weights=self.weights, biases=self.biases)

    def _write(self, op: Operation) -> None:
        if isinstance(op, (Quantize, Dequantize)):
            self.names[op.name] = self.names[op.inputs[0]]
        elif isinstance(op, Layer):
            self._layer(op)
        elif isinstance(op, Combination):
            target, args = self._combination(op)
            self._clipped(op, self._emit(op.name, op.name, target, args))
        elif isinstance(op, Concat):
            parts = tuple(Ref(self.names[name]) for name in op.inputs)
            self.names[op.name] = self._emit(op.name, op.name, "aten.cat.default", (parts, op.axis))
        elif isinstance(op, (Move, Float)):
            args, kwargs = self._renamed(op.args), self._renamed(dict(op.kwargs))
            self.names[op.name] = self._emit(op.name, op.name, op.target, args, kwargs)
        else:
            raise RequestError(f"{op.name} ({op.kind}) has no float form")

    def _emit(self, name: str, like: str, target: str, args: Any, kwargs: Any = None) -> str:
        """Append an operation whose tensor has the shape of ``like``; returns its name."""
        inputs = tuple(n for n in _refs((args, kwargs or {})) if n in self.values)
        self.operations.append(Float(name=name, inputs=inputs, target=target, args=args, kwargs=kwargs or {}))
        self.values[name] = Value(name=name, grid=None, shape=self.source.values[like].shape)
        return name

    def _clipped(self, op: Layer | Combination, name: str) -> None:
        if op.bounds != _UNBOUNDED:
            name = self._clip(op.name, name, op.bounds)
        self.names[op.name] = name

    def _clip(self, operation: str, name: str, bounds: tuple[float, float]) -> str:
        low, high = bounds
        clipped = f"{operation}.clipped"
        if bounds == (0.0, float("inf")):
            return self._emit(clipped, operation, "aten.relu.default", (Ref(name),))
        if _UNBOUNDED[0] < low and high < _UNBOUNDED[1]:
            return self._emit(clipped, operation, "aten.hardtanh.default", (Ref(name), low, high))
        edges = tuple(None if abs(edge) == float("inf") else edge for edge in bounds)
        return self._emit(clipped, operation, "aten.clamp.default", (Ref(name), *edges))

    def _layer(self, op: Layer) -> None:
        weight, bias = f"{op.name}.weight", f"{op.name}.bias"
        self.weights[op.name] = weight
        self.constants[weight] = op.weight.dequantize()
        if op.bias is not None:
            self.biases[op.name] = bias
            self.constants[bias] = op.bias
        tensors = (Ref(weight), None if op.bias is None else Ref(bias))
        source = self.names[op.inputs[0]]
        if op.function == "linear":
            self._clipped(op, self._emit(op.name, op.name, "aten.linear.default", (Ref(source), *tensors)))
            return
        padding = tuple(before for before, _ in op.padding)
        if any(before != after for before, after in op.padding):
            source, padding = self._pad(op, source), (0,) * len(op.padding)
        args = (Ref(source), *tensors, op.stride, padding, op.dilation, op.groups)
        self._clipped(op, self._emit(op.name, op.name, f"aten.{op.function}.default", args))

    def _pad(self, op: Layer, source: str) -> str:
        name = f"{op.name}.pad"
        args = (Ref(source), innermost_first(op.padding), 0.0)
        self._emit(name, op.inputs[0], "aten.constant_pad_nd.default", args)
        shape = self.values[name].shape
        tail = tuple(
            None if n is None else n + sum(pads)
            for n, pads in zip(shape[-len(op.padding) :], op.padding, strict=True)
        )
        self.values[name] = Value(name=name, grid=None, shape=(*shape[: -len(op.padding)], *tail))
        return name

    def _combination(self, op: Combination) -> tuple[str, tuple[Any, ...]]:
        x = tuple(Ref(self.names[name]) for name in op.inputs)
        if isinstance(op, Add):
            return ("aten.add.Tensor" if op.sign > 0 else "aten.sub.Tensor"), x
        if isinstance(op, Multiply):
            return "aten.mul.Tensor", x
        if isinstance(op, MatMul):
            return "aten.matmul.default", x
        if isinstance(op, GlobalPool):
            axes = tuple(range(2, len(self.source.values[op.inputs[0]].shape)))
            return "aten.mean.dim", (*x, axes, op.keepdims)
        assert isinstance(op, Pool)
        options = (op.kernel, op.stride, op.padding, op.ceil_mode, op.count_include_pad)
        return f"aten.avg_pool{len(op.kernel)}d.default", (*x, *options)

    def _renamed(self, tree: Any) -> Any:
        if isinstance(tree, Ref):
            return Ref(self.names.get(tree.name, tree.name))
        if isinstance(tree, tuple):
            return tuple(self._renamed(item) for item in tree)
        if isinstance(tree, dict):
            return {key: self._renamed(value) for key, value in tree.items()}
        return tree


def innermost_first(padding: Pads) -> tuple[int, ...]:
    """(before, after) of each axis as torch's ``pad`` takes them, the last axis first."""
    return tuple(edge for pair in reversed(padding) for edge in pair)


def _refs(tree: Any) -> list[str]:
    if isinstance(tree, Ref):
        return [tree.name]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [name for item in tree for name in _refs(item)] if isinstance(tree, tuple) else []
