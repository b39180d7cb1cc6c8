"""The program while it is written: names, grids and float forms of the tensors of a graph."""

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map_only

from mqbench.deploy.program import (
    Batch,
    Dequantize,
    Float,
    Grid,
    Move,
    Operation,
    Program,
    Quantize,
    Ref,
    Value,
)
from mqbench.errors import RequestError


class Emission:
    """Collects operations, and knows for each node of the graph which tensor of the program it became."""

    def __init__(self, root: fx.GraphModule) -> None:
        self.root = root
        self.operations: list[Operation] = []
        self.values: dict[str, Value] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.constants: dict[str, Tensor] = {}
        self._names: dict[fx.Node, str] = {}
        self._dequantized: dict[str, str] = {}
        self._sizes: dict[fx.Node, Any] = {}
        self._taken: set[str] = set()

    # -- names and grids ----------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """``name``, or with a number if it is taken; reserves it."""
        found, count = name, 1
        while found in self._taken:
            found, count = f"{name}_{count}", count + 1
        self._taken.add(found)
        return found

    def is_tensor(self, node: fx.Node) -> bool:
        """Something else than a size."""
        return isinstance(node.meta.get("val"), (Tensor, list, tuple)) or node in self._names

    def grid(self, node: fx.Node) -> Grid | None:
        """The grid of the tensor that a node became; None for float tensors and constants."""
        name = self._names.get(node)
        return None if name is None or name not in self.values else self.values[name].grid

    def name(self, node: fx.Node) -> str:
        """The tensor that a node became."""
        return self._names[node]

    def as_float(self, node: fx.Node) -> str:
        """The same, dequantized if it holds integers."""
        name = self._names[node]
        value = self.values.get(name)
        if value is None or value.grid is None:
            return name
        if name not in self._dequantized:
            new = self.unique(f"{name}.dequantize")
            self.operations.append(Dequantize(name=new, inputs=(name,)))
            self.values[new] = Value(name=new, grid=None, shape=value.shape)
            self._dequantized[name] = new
        return self._dequantized[name]

    # -- what nodes become --------------------------------------------------------------------------

    def input(self, node: fx.Node) -> None:
        """A tensor that the user gives."""
        name = self.unique(node.name)
        self._names[node] = name
        self.values[name] = Value(name=name, grid=None, shape=_shape(node))
        self.inputs.append(name)

    def constant(self, node: fx.Node) -> None:
        """A stored tensor."""
        path, _, leaf = str(node.target).rpartition(".")
        self._names[node] = self._constant(getattr(self.root.get_submodule(path), leaf), str(node.target))

    def _constant(self, tensor: Tensor, name: str) -> str:
        unique = self.unique(name)
        self.constants[unique] = tensor.detach()
        return unique

    def alias(self, node: fx.Node, source: fx.Node) -> None:
        """``node`` is the same tensor as ``source``."""
        self._names[node] = self._names[source]

    def emit(self, operation: Operation, node: fx.Node, grid: Grid | None) -> None:
        """Append an operation that computes ``node``."""
        self.operations.append(operation)
        self.values[operation.name] = Value(name=operation.name, grid=grid, shape=_shape(node))
        self._names[node] = operation.name

    def quantize(self, node: fx.Node, source: fx.Node, grid: Grid, name: str) -> None:
        """Append the quantization of a float tensor (or of integers of another grid)."""
        self.emit(Quantize(name=self.unique(f"{name}.quantize"), inputs=(self.as_float(source),)), node, grid)

    def move(self, node: fx.Node, source: fx.Node, name: str) -> None:
        """Append a move of integers."""
        args, kwargs = self._arguments(node, lambda n: self.name(n))
        operation = Move(
            name=self.unique(name),
            inputs=(self.name(source),),
            target=str(node.target),
            args=args,
            kwargs=kwargs,
        )
        self.emit(operation, node, self.grid(source))

    def float(
        self, node: fx.Node, target: str, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> None:
        """Append a float operation."""
        if not target.startswith("aten."):
            raise RequestError(f"{node.name} calls {target}, which cannot be lowered")
        label = self.unique(name)
        inputs: list[str] = []

        def refer(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                return Ref(self._constant(leaf, f"{label}.{len(self.constants)}"))
            if leaf in self._sizes:
                return self._sizes[leaf]
            found = self.as_float(leaf)
            if found in self.values:
                inputs.append(found)
            return Ref(found)

        args, kwargs = _plain(tree_map_only((Tensor, fx.Node), refer, (args, kwargs)))
        operation = Float(name=label, inputs=tuple(inputs), target=target, args=args, kwargs=kwargs)
        self.emit(operation, node, None)

    def defer(self, node: fx.Node) -> None:
        """A split: its parts are slices of their own, so nothing is emitted here."""

    def size(self, node: fx.Node) -> bool:
        """Note a node that computes a size; True if it is one."""
        value = node.meta.get("val")
        if str(node.target).startswith("aten.sym_size"):
            self._sizes[node] = value if isinstance(value, int) else Batch()
            return True
        if isinstance(value, (torch.SymInt, int)) or node.target in (operator.mul, operator.add):
            if isinstance(value, int):
                self._sizes[node] = value
                return True
            # batch times fixed sizes: what a reshape can work out by itself
            self._sizes[node] = -1
            return True
        return False

    def _arguments(self, node: fx.Node, name: Any) -> Any:
        def refer(leaf: fx.Node) -> Any:
            return self._sizes[leaf] if leaf in self._sizes else Ref(name(leaf))

        return _plain(tree_map_only(fx.Node, refer, (node.args, dict(node.kwargs))))

    def program(self, description: dict[str, Any]) -> Program:
        """What was collected."""
        return Program(
            operations=tuple(self.operations),
            values=self.values,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            constants=self.constants,
            description=description,
        )


def _plain(tree: Any) -> Any:
    """Lists as tuples, and no arguments that only torch has (memory format, device)."""
    if isinstance(tree, (list, tuple)):
        return tuple(_plain(x) for x in tree)
    if isinstance(tree, dict):
        kept = {k: _plain(v) for k, v in tree.items()}
        return {k: v for k, v in kept.items() if not isinstance(v, (torch.memory_format, torch.device))}
    return tree


def _shape(node: fx.Node) -> tuple[int | None, ...]:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return ()
    return tuple(n if isinstance(n, int) else None for n in value.shape)
