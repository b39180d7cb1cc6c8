"""Converted network -> `Program`: which operations run on integers, and on which grids.

A layer, add, multiply, matrix product or average pool whose inputs are integers and whose result, through
clips alone (ReLU, ReLU6), goes to one quantizer becomes one integer operation: since quantizing is monotone,
clip then quantize is quantize then clip the integers. Moves act on integers as they are. Everything else is
float, between a `Dequantize` and a `Quantize`.
"""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from mqbench.conversion import DeployedQuantizer
from mqbench.deploy import _patterns as patterns
from mqbench.deploy._emission import Emission
from mqbench.deploy.program import (
    Add,
    Combination,
    Concat,
    Grid,
    Layer,
    MatMul,
    Multiply,
    Program,
    Weight,
)
from mqbench.errors import RequestError
from mqbench.layers import BATCH_NORMS, QUANTIZABLE, DeployedLayer
from mqbench.nodes import label
from mqbench.operations import ADD, CONCAT, MATMUL, MOVES, MULTIPLY, POOL
from mqbench.plan import Plan


def lower(deployed: fx.GraphModule) -> Program:
    """Lower a converted network; it is not changed, and the program shares its tensors.

    Args:
        deployed: from `mqbench.convert`; or a float network from `mqbench.capture`, which gives a program of
            float operations only.

    Raises:
        RequestError: not a captured network, or an operation that cannot be lowered.
    """
    if not isinstance(deployed, fx.GraphModule):
        raise RequestError(f"expected a network from mqbench.convert, got {type(deployed).__name__}")
    if any(isinstance(m, (DeployedLayer, DeployedQuantizer)) for m in deployed.modules()):
        return _Lowering(deployed).run()
    if isinstance(deployed.meta.get("plan"), Plan):
        raise RequestError("the network is prepared but not converted; call mqbench.convert first")
    return _Lowering(deployed).run()


def _grid(quantizer: DeployedQuantizer) -> Grid:
    return Grid(
        scale=float(quantizer.scale.float()),
        zero_point=int(quantizer.zero_point),
        quant_min=quantizer.quant_min,
        quant_max=quantizer.quant_max,
        scheme=quantizer.scheme,
    )


class _Lowering:
    """Visits every node once, in order."""

    def __init__(self, deployed: fx.GraphModule) -> None:
        self.root = deployed
        self.graph = copy.deepcopy(deployed.graph)
        self.modules = dict(deployed.named_modules(remove_duplicate=False))
        self.out = Emission(deployed)
        self.done: set[fx.Node] = set()
        self.folded_pads: set[fx.Node] = set()
        plan = deployed.meta.get("plan")
        self.plan = plan if isinstance(plan, Plan) else None

    def run(self) -> Program:
        patterns.hoist_quantizers(self.graph, self._is_quantizer)
        for node in list(self.graph.nodes):
            if node not in self.done:
                self._visit(node)
        return self.out.program(_describe(self.plan))

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def _is_quantizer(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), DeployedQuantizer)

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.out.input(node)
        elif node.op == "get_attr":
            self.out.constant(node)
        elif node.op == "output":
            self._output(node)
        elif node.op == "call_module":
            self._call_module(node)
        else:
            self._call_function(node)

    def _output(self, node: fx.Node) -> None:
        for leaf in tree_leaves(node.args[0]):
            if not isinstance(leaf, fx.Node):
                raise RequestError(f"the network returns {leaf!r}, which is not a tensor that it computes")
            self.out.outputs.append(self.out.as_float(leaf))

    def _call_module(self, node: fx.Node) -> None:
        module = self._module(node)
        if isinstance(module, DeployedQuantizer):
            self._quantizer(node, _grid(module))
        elif isinstance(module, DeployedLayer):
            self._layer(node, module)
        elif module is not None and isinstance(module, (*QUANTIZABLE, *BATCH_NORMS)):
            target, args = patterns.float_call(module, node.args[0])
            self.out.float(node, target, args, {}, str(node.target))
        elif "dropout" in type(module).__name__.lower():
            self.out.alias(node, node.all_input_nodes[0])
        else:
            raise RequestError(f"{node.target} ({type(module).__name__}) cannot be lowered")

    def _quantizer(self, node: fx.Node, grid: Grid) -> None:
        source = node.all_input_nodes[0]
        if self.out.grid(source) == grid:  # quantized to this grid already
            self.out.alias(node, source)
        else:
            self.out.quantize(node, source, grid, str(node.target).rpartition(".")[2])

    def _end(self, node: fx.Node) -> tuple[fx.Node, Grid, tuple[int, int], tuple[float, float]] | None:
        """Where the region of an integer operation ends: its quantizer, grid, and clips as integers and reals."""
        low, high, chain = float("-inf"), float("inf"), []
        end = node
        while len(end.users) == 1:
            (end,) = end.users
            chain.append(end)
            module = self._module(end)
            if isinstance(module, DeployedQuantizer):
                grid = _grid(module)
                self.done.update(chain)
                return end, grid, (grid.integer(low), grid.integer(high)), (low, high)
            bounds = patterns.clip_bounds(end)
            if bounds is None:
                return None
            low, high = (min(max(edge, bounds[0]), bounds[1]) for edge in (low, high))
        return None

    def _layer(self, node: fx.Node, layer: DeployedLayer) -> None:
        source: Any = node.args[0]
        weight = Weight(
            integers=layer.weight_integers,
            scale=layer.weight_scale.float(),
            zero_point=layer.weight_zero_point.to(torch.int32),
            scheme=layer.scheme,
        )
        name = str(node.target)
        if self.out.grid(self._behind_pad(source)[0]) is None:
            target, args = patterns.float_layer(layer.function, weight.dequantize(), layer, source)
            self.out.float(node, target, args, {}, name)
            return
        source, extra = self._behind_pad(source)
        end = self._end(node)
        options = patterns.layer_options(
            layer.function, layer.options, tuple(weight.integers.shape[2:]), extra
        )
        operation = Layer(
            name=self.out.unique(name),
            inputs=(self.out.name(source),),
            function=layer.function,
            weight=weight,
            bias=None if layer.bias is None else layer.bias.float(),
            clip=None if end is None else end[2],
            bounds=(float("-inf"), float("inf")) if end is None else end[3],
            **options,
        )
        self.out.emit(operation, node, None if end is None else end[1])
        if end is not None:
            self.out.alias(end[0], node)

    def _behind_pad(self, source: fx.Node) -> tuple[fx.Node, tuple[tuple[int, int], ...]]:
        """What a layer reads, behind zero padding that is merged into it, and that padding."""
        if source not in self.folded_pads:
            return source, ()
        extra = patterns.spatial_zero_pad(source)
        assert extra is not None
        return source.all_input_nodes[0], extra

    def _call_function(self, node: fx.Node) -> None:
        tensors = [n for n in node.all_input_nodes if self.out.is_tensor(n)]
        on_integers = bool(tensors) and all(self.out.grid(n) is not None for n in tensors)
        if self.out.size(node):
            return
        if node.target is operator.getitem:
            target, args = patterns.pick(node)
            node.target, node.args = target, args
            tensors = [n for n in node.all_input_nodes if self.out.is_tensor(n)]
            on_integers = bool(tensors) and all(self.out.grid(n) is not None for n in tensors)
        if patterns.is_split(node):
            self.out.defer(node)
        elif on_integers and self._folds_into_layers(node):
            self.folded_pads.add(node)
        elif on_integers and node.target in MOVES and patterns.pads_zero(node):
            self.out.move(node, node.all_input_nodes[0], label(node))
        elif on_integers and node.target in CONCAT and self._one_grid(tensors, node):
            self._concat(node, tensors)
        elif not (on_integers and self._combine(node, tensors)):
            self.out.float(node, str(node.target), node.args, dict(node.kwargs), label(node))

    def _folds_into_layers(self, node: fx.Node) -> bool:
        extra = patterns.spatial_zero_pad(node)
        readers = [self._module(user) for user in node.users]
        return extra is not None and all(
            isinstance(m, DeployedLayer) and m.function == f"conv{len(extra)}d" for m in readers
        )

    def _one_grid(self, tensors: list[fx.Node], node: fx.Node) -> bool:
        return (
            str(node.target).startswith(("aten.cat", "aten.concat"))
            and len({self.out.grid(n) for n in tensors}) == 1
        )

    def _concat(self, node: fx.Node, tensors: list[fx.Node]) -> None:
        parts: Any = node.args[0]
        axis: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        axis = axis % node.meta["val"].dim()
        names = tuple(self.out.name(n) for n in parts)
        grid = self.out.grid(tensors[0])
        self.out.emit(Concat(name=self.out.unique(label(node)), inputs=names, axis=axis), node, grid)

    def _combine(self, node: fx.Node, tensors: list[fx.Node]) -> bool:
        """Emit an integer operation that requantizes, if the node is one and ends in a quantizer."""
        make = self._combination(node, tensors)
        end = self._end(node) if make is not None else None
        if make is None or end is None:
            return False
        inputs = tuple(self.out.name(n) for n in tensors)
        if len(tensors) == 1 and node.target not in POOL:
            inputs *= 2  # x + x
        operation = make(name=self.out.unique(label(node)), inputs=inputs, clip=end[2], bounds=end[3])
        self.out.emit(operation, node, end[1])
        self.out.alias(end[0], node)
        return True

    def _combination(self, node: fx.Node, tensors: list[fx.Node]) -> Callable[..., Combination] | None:
        if node.target in POOL:
            return patterns.pool(node)
        operands = [a for a in node.args if isinstance(a, fx.Node)]
        if len(operands) != 2 or any(not self.out.is_tensor(a) for a in operands):
            return None
        if len(tensors) == 2 and operands != tensors:
            return None
        if node.target in ADD and node.kwargs.get("alpha", 1) == 1 and len(node.args) == 2:
            sign = -1 if str(node.target).startswith("aten.sub") else 1
            return lambda **fields: Add(sign=sign, **fields)
        if node.target in MULTIPLY and str(node.target).startswith("aten.mul") and len(node.args) == 2:
            return Multiply
        if node.target in MATMUL and str(node.target).startswith(("aten.matmul", "aten.bmm")):
            return MatMul
        return None


def _describe(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        return {}
    return {
        "backend": plan.backend,
        "algorithm": plan.algorithm,
        "weight_bits": plan.bits[0],
        "activation_bits": plan.bits[1],
        "first_last_bits": plan.first_last_bits,
        "bn_folding": plan.bn_folding,
        "graph": plan.graph,
    }
