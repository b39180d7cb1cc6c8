"""A quantized network whose quantizers can be taken out one by one, recomputing only what follows them."""

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from mqbench.absorption import release
from mqbench.attention import QuantizedAttention
from mqbench.conversion import DeployedQuantizer
from mqbench.errors import RequestError
from mqbench.layers import DeployedLayer, QuantizedLayer
from mqbench.operations import CONCAT
from mqbench.quantizer import FakeQuantize, Role
from mqbench.scheme import QuantScheme

Quantizer = FakeQuantize | DeployedQuantizer
Values = Mapping[fx.Node, Any]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One quantizer of a network.

    Args:
        name: its path.
        role: weight or activation.
        module: the quantizer; a converted layer for its weight, which is integers already.
        nodes: the calls that change when it is taken out.
        layer: path of the layer whose weight it is, or of the first that reads what it quantizes,
            through moves and concats.
    """

    name: str
    role: Role
    module: Quantizer | DeployedLayer
    nodes: tuple[fx.Node, ...]
    layer: str | None = None

    @property
    def scheme(self) -> QuantScheme:
        """The integer grid."""
        return self.module.scheme

    @property
    def removable(self) -> bool:
        """Something is known of the tensor before quantization."""
        return not isinstance(self.module, DeployedLayer)


@dataclass(frozen=True, kw_only=True)
class LayerPoints:
    """A layer with the quantizers of its weight and of its input.

    Args:
        name: its path.
        node: its first call.
        points: names of its quantizers that can be taken out.
    """

    name: str
    node: fx.Node
    points: tuple[str, ...] = field(default=())


class Probe:
    """A copy of a prepared or converted network, to be run with any of its quantizers taken out.

    Args:
        model: from `mqbench.prepare`, calibrated, or from `mqbench.convert`; it is not changed.

    Raises:
        RequestError: a network of another kind.

    Attributes:
        points: all quantizers by name, in the order of the graph.
        layers: all layers with a quantized weight, in that order.
    """

    def __init__(self, model: fx.GraphModule) -> None:
        if not isinstance(model, fx.GraphModule) or not any(
            isinstance(m, Quantizer) for m in model.modules()
        ):
            raise RequestError(
                f"diagnose takes a network from mqbench.prepare or mqbench.convert, got {type(model).__name__}"
            )
        self._network = copy.deepcopy(model).eval().requires_grad_(False)
        release(self._network)
        _write_out_attention(self._network)
        self._nodes = list(self._network.graph.nodes)
        self._interpreter = fx.Interpreter(self._network, garbage_collect_values=False)
        self._modules = dict(self._network.named_modules(remove_duplicate=False))
        self.points = {point.name: point for point in self._find_points()}
        self.layers = tuple(self._find_layers())
        self._of_node = {n: p.name for p in self.points.values() if p.role == "activation" for n in p.nodes}
        self._followers: dict[tuple[fx.Node, ...], tuple[fx.Node, ...]] = {}

    @property
    def removable(self) -> frozenset[str]:
        """Names of all quantizers that can be taken out."""
        return frozenset(name for name, point in self.points.items() if point.removable)

    @torch.no_grad()
    def run(self, inputs: tuple[Tensor, ...], without: Collection[str] = ()) -> dict[fx.Node, Any]:
        """The value of every node, with some quantizers taken out."""
        given = iter(inputs)
        values: dict[fx.Node, Any] = {}
        for node in self._nodes:
            values[node] = (
                next(given) if node.op == "placeholder" else self._compute(node, values, without, {})
            )
        return values

    @torch.no_grad()
    def again(
        self,
        values: Values,
        changed: Collection[str],
        without: Collection[str],
        instead: Mapping[str, nn.Module] | None = None,
    ) -> Tensor:
        """The output after a change of some quantizers, from the values of a run before it.

        Args:
            values: of `run`; not changed.
            changed: quantizers that are taken out, put in or replaced, compared with that run.
            without: all that are taken out now.
            instead: quantizers in the place of others, by the name of the replaced.
        """
        start = tuple(node for name in changed for node in self.points[name].nodes)
        overlay = _Overlay(values)
        for node in self._following(start):
            overlay.new[node] = self._compute(node, overlay, without, instead or {})
        return self.output(overlay)

    def output(self, values: Any) -> Tensor:
        """The network's first output tensor."""
        found = values[self._nodes[-1]]
        while isinstance(found, (tuple, list)):
            found = found[0]
        tensor: Tensor = next(iter(found.values())) if isinstance(found, dict) else found
        return tensor

    def operands(self, point: Point, values: Values) -> Iterator[tuple[Tensor, fx.Node]]:
        """What the quantizer is given in a run, and at which node."""
        for node in point.nodes:
            if point.role == "activation":
                yield values[node.args[0]], node  # type: ignore[index]
            elif point.removable:
                layer: Any = self._modules[str(node.target)]
                tensors = [None if a is None else values[a] for a in node.args[1:]]  # type: ignore[index]
                yield layer.deployed_weight(*tensors)[0], node

    def _compute(
        self,
        node: fx.Node,
        values: Any,
        without: Collection[str],
        instead: Mapping[str, nn.Module],
    ) -> Any:
        args = fx.map_arg(node.args, values.__getitem__)
        name = self._of_node.get(node)
        if name is not None and name in without:
            return args[0]
        if name is not None and name in instead:
            return instead[name](args[0])
        kwargs = fx.map_arg(node.kwargs, values.__getitem__)
        layer = self._modules.get(str(node.target)) if node.op == "call_module" else None
        own = layer.weight_quantizer if isinstance(layer, QuantizedLayer) else None
        if own is None:
            return getattr(self._interpreter, node.op)(node.target, args, kwargs)
        assert isinstance(layer, QuantizedLayer)
        chosen: Any = instead.get(_of_weight(node), own)
        layer.weight_quantizer, chosen.enabled = chosen, _of_weight(node) not in without
        try:
            return layer(*args, **kwargs)
        finally:
            layer.weight_quantizer, own.enabled = own, True

    def _following(self, start: tuple[fx.Node, ...]) -> tuple[fx.Node, ...]:
        if start not in self._followers:
            dirty = set(start)
            for node in self._nodes:
                if any(x in dirty for x in node.all_input_nodes):
                    dirty.add(node)
            self._followers[start] = tuple(node for node in self._nodes if node in dirty)
        return self._followers[start]

    def _find_points(self) -> Iterator[Point]:
        calls: dict[str, list[fx.Node]] = {}
        for node in self._nodes:
            if node.op == "call_module":
                calls.setdefault(str(node.target), []).append(node)
        for path, nodes in calls.items():
            module = self._modules[path]
            if isinstance(module, QuantizedLayer | DeployedLayer):
                inner = module.weight_quantizer if isinstance(module, QuantizedLayer) else module
                yield Point(
                    name=_of_weight(nodes[0]), role="weight", module=inner, nodes=tuple(nodes), layer=path
                )
            elif isinstance(module, Quantizer):
                readers = [layer for node in nodes for layer in self._readers(node)]
                first = readers[0] if readers else None
                yield Point(name=path, role="activation", module=module, nodes=tuple(nodes), layer=first)

    def _readers(self, node: fx.Node) -> Iterator[str]:
        """Layers that read what a quantizer gives, through operations that only move, select or join values."""
        for reader in node.users:
            module = self._modules.get(str(reader.target)) if reader.op == "call_module" else None
            if isinstance(module, QuantizedLayer | DeployedLayer):
                yield str(reader.target)
            elif not isinstance(module, Quantizer) and _hands_on(reader):
                yield from self._readers(reader)

    def _find_layers(self) -> Iterator[LayerPoints]:
        for point in self.points.values():
            if point.role != "weight":
                continue
            entering: Any = point.nodes[0].args[0]
            names = [*([point.name] if point.removable else []), *self._feeding(entering)]
            assert point.layer is not None
            yield LayerPoints(name=point.layer, node=point.nodes[0], points=tuple(dict.fromkeys(names)))

    def _feeding(self, source: fx.Node) -> Iterator[str]:
        """The quantizers whose values a node hands on: one, or those of a concat's inputs (which mostly share one)."""
        if source.op == "call_module" and isinstance(self._modules[str(source.target)], Quantizer):
            yield str(source.target)
        elif _hands_on(source):
            for node in source.all_input_nodes:
                yield from self._feeding(node)


def _hands_on(node: fx.Node) -> bool:
    """The node computes nothing from two tensors: it has one, or it joins several."""
    return len(node.all_input_nodes) == 1 or node.target in CONCAT


class _Overlay:
    """New values before old ones."""

    def __init__(self, old: Values) -> None:
        self.old = old
        self.new: dict[fx.Node, Any] = {}

    def __getitem__(self, node: fx.Node) -> Any:
        return self.new[node] if node in self.new else self.old[node]


def _of_weight(node: fx.Node) -> str:
    """The name of the quantizer of a layer's weight."""
    return f"{node.target}.weight"


def _write_out_attention(network: fx.GraphModule) -> None:
    """Make the quantizers within attention calls nodes of their own."""
    modules = dict(network.named_modules(remove_duplicate=False))
    for node in list(network.graph.nodes):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, QuantizedAttention):
            for path, quantizer in module.write_out(network.graph, node).items():
                network.set_submodule(path, quantizer)
    network.graph.lint()
    network.recompile()
