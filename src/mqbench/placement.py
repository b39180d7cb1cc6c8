"""Which edge of the graph belongs to which activation quantizer: graphs 1, 2 and 3 (SPEC section 10).

A pure decision over the captured graph, in two steps that a preparation then carries out mechanically.
Tensors are looked at in *regions*: a layer with the batch norm and activation function behind it is one
operation with one output tensor, as an inference library fuses it. Graph 1 gives every layer input a
quantizer of its own. Graph 3 gives every tensor that a quantized operation reads one quantizer, shared by
all who read it. Graph 2 leaves out of graph 3 the output of the convolution that is fused with an add.
Stored tensors that join activations (position embeddings, class tokens) are quantized as these are.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from mqbench.attention import ATTENTION, can_write_out
from mqbench.layers import BATCH_NORMS, QUANTIZABLE
from mqbench.nodes import flat_name, function_of, is_float, is_vector, label, tensor_inputs
from mqbench.operations import ACTIVATIONS, ADD, CONCAT, ELEMENTWISE, MOVES, READERS, UNQUANTIZED

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True)
class Group:
    """One activation quantizer and the edges that it serves.

    Args:
        name: of the quantizer's module.
        sources: nodes whose output is quantized, each once, for all its readers (graphs 2 and 3).
        edges: (reader, argument) pairs that are quantized privately (graph 1).
        first_or_last: the tensor enters the first or last layer.
        layers: paths of the layers that the tensor enters.
    """

    name: str
    sources: tuple[fx.Node, ...] = ()
    edges: tuple[tuple[fx.Node, fx.Node], ...] = ()
    first_or_last: bool = False
    layers: tuple[str, ...] = ()


class Placement:
    """The decision for one captured graph.

    Args:
        graph_module: from `capture`; nothing is changed.
        graph: 1, 2 or 3.
        skip: names of layers that stay float.
        shared_concat: the inputs of a concat share one quantizer (graphs 2 and 3).
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        graph: int,
        skip: Iterable[str] = (),
        *,
        shared_concat: bool = True,
    ) -> None:
        self.modules = dict(graph_module.named_modules(remove_duplicate=False))
        self.nodes = list(graph_module.graph.nodes)
        self.graph = graph
        self.skip = frozenset(skip)
        self.shared_concat = shared_concat
        self.layers = [n for n in self.nodes if self.is_layer(n) and n.target not in self.skip]
        self._layer_set = frozenset(self.layers)
        self._sources: dict[fx.Node, list[fx.Node]] = {}
        self.first_and_last = self._first_layers() | self._last_layers()
        self._depth = self._depths()

    # -- what a node is ---------------------------------------------------------------------------

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, or None."""
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def is_layer(self, node: fx.Node) -> bool:
        """A convolution or linear layer with a stored weight."""
        return isinstance(self.module(node), QUANTIZABLE)

    def batch_norm_behind(self, node: fx.Node) -> fx.Node | None:
        """The batch norm that can be folded into a layer: the only reader of its output."""
        if not self.is_layer(node) or len(node.users) != 1:
            return None
        (user,) = node.users
        norm, layer = self.module(user), self.modules[str(node.target)]
        if not isinstance(norm, BATCH_NORMS) or norm.running_mean is None:
            return None
        weight = layer.weight
        assert isinstance(weight, Tensor)
        value = node.meta.get("val")
        if isinstance(layer, nn.Linear) and isinstance(value, Tensor) and value.dim() != 2:
            return None  # the batch norm counts another axis as channels
        return user if norm.num_features == weight.shape[0] else None

    def reads_quantized(self, node: fx.Node) -> bool:
        """A quantized operation of graphs 2 and 3: all its tensor inputs are integers."""
        if node in self._layer_set or node.target in READERS:
            return True
        operands = node.args[:2]
        return node.target in ELEMENTWISE and all(
            isinstance(x, fx.Node) and not self.is_stored_vector(x) for x in operands
        )

    def is_fused_behind(self, node: fx.Node) -> bool:
        """Computed on the output of the node before it, before that is quantized."""
        return node.target in ACTIVATIONS or self.is_affine(node)

    def is_affine(self, node: fx.Node) -> bool:
        """A batch norm, or a product or sum with a stored vector (layer scale), which merges as one does."""
        if node.target in ELEMENTWISE:
            return [self.is_stored_vector(x) for x in tensor_inputs(node)] in ([True, False], [False, True])
        return isinstance(self.module(node), BATCH_NORMS)

    def is_stored_vector(self, node: Any) -> bool:
        """One stored number, or one a channel (a parameter or buffer, perhaps reshaped)."""
        return isinstance(node, fx.Node) and is_vector(node) and self.source(node)[0].op == "get_attr"

    def operand(self, node: fx.Node) -> fx.Node | None:
        """The tensor that a fused operation changes."""
        return next((x for x in tensor_inputs(node) if not self.is_stored_vector(x)), None)

    def is_move(self, node: fx.Node) -> bool:
        """Leaves every value as it is (pooling by maximum, reshapes, slices, dropout)."""
        if node.target is operator.getitem:  # of a split; one of max or of an LSTM is a value of its own
            return isinstance(node.args[0], fx.Node) and node.args[0].target in MOVES
        return node.target in MOVES or isinstance(self.module(node), _DROPOUTS)

    def left_float(self) -> list[str]:
        """Layers that no quantizer reaches, the skipped ones aside: ``up (conv_transpose2d)``."""
        whole = [n for n in self.nodes if n.target is ATTENTION and self.graph != 1 and not can_write_out(n)]
        left = [node for node in self.nodes if node.target in UNQUANTIZED or node in whole]
        return [f"{label(node)} ({function_of(node)})" for node in left]

    def attentions(self) -> list[fx.Node]:
        """Attention calls whose probabilities, between their two matrix products, are quantized."""
        return [] if self.graph == 1 else [node for node in self.nodes if can_write_out(node)]

    # -- regions ----------------------------------------------------------------------------------

    def source(self, node: fx.Node) -> list[fx.Node]:
        """Where the tensor that ``node`` gives was computed: through moves and concats, back to region ends."""
        if node not in self._sources:
            through: list[fx.Node] = []
            if self.is_move(node):
                through = tensor_inputs(node)[:1]
            elif node.target in CONCAT:
                through = tensor_inputs(node)
            self._sources[node] = [s for x in through for s in self.source(x)] or [node]
        return self._sources[node]

    def producer(self, node: fx.Node) -> fx.Node:
        """The operation at the head of the region that ends in ``node``."""
        while self.is_fused_behind(node) and (before := self.operand(node)) and len(before.users) == 1:
            node = before
        return node

    # -- the decision -----------------------------------------------------------------------------

    def groups(self) -> list[Group]:
        """The activation quantizers, in graph order."""
        return self._private() if self.graph == 1 else self._shared()

    def _private(self) -> list[Group]:
        return [
            Group(
                name=f"{flat_name(node)}_input",
                edges=((node, node.args[0]),),
                first_or_last=node in self.first_and_last,
                layers=(str(node.target),),
            )
            for node in self.layers
        ]

    def _shared(self) -> list[Group]:
        parent: dict[fx.Node, fx.Node] = {}

        def find(x: fx.Node) -> fx.Node:
            while parent.setdefault(x, x) is not x:
                x = parent[x]
            return x

        entered: dict[fx.Node, list[fx.Node]] = {}
        for node in self.nodes:
            if not self.reads_quantized(node):
                continue
            fused = self._fused_with_add(node) if self.graph == 2 else None
            values = [node] if node.target in CONCAT else tensor_inputs(node)
            for value in values:
                if value is fused:
                    continue
                sources = [s for s in self.source(value) if is_float(s)]
                for other in sources:  # a concat's inputs share one grid
                    parent[find(other)] = find(sources[0] if self.shared_concat else other)
                if node in self._layer_set:
                    for source in sources:
                        entered.setdefault(source, []).append(node)
        members: dict[fx.Node, list[fx.Node]] = {}
        for node in self.nodes:
            if node in parent:
                members.setdefault(find(node), []).append(node)
        return [
            self._group(same, [layer for x in same for layer in entered.get(x, ())])
            for same in members.values()
        ]

    def _group(self, sources: list[fx.Node], layers: list[fx.Node]) -> Group:
        return Group(
            name=flat_name(self.producer(sources[0])),
            sources=tuple(sources),
            first_or_last=any(layer in self.first_and_last for layer in layers),
            layers=tuple(str(layer.target) for layer in layers),
        )

    def _fused_with_add(self, node: fx.Node) -> fx.Node | None:
        """The input of an add that stays in the accumulator of the convolution that computes it."""
        if node.target not in ADD:
            return None
        bare = [x for x in tensor_inputs(node) if self._is_bare_layer(x, node)]
        # of two (a downsampled shortcut) the main branch is the one that computes more
        return max(bare, key=lambda x: self._depth[self.producer(x)], default=None)

    def _is_bare_layer(self, value: fx.Node, reader: fx.Node) -> bool:
        """A layer, perhaps with a batch norm, layer scale or dropout, whose result only ``reader`` sees."""
        while set(value.users) == {reader}:
            if value in self._layer_set:
                return True
            before = self.operand(value)
            if before is None or not (self.is_affine(value) or isinstance(self.module(value), _DROPOUTS)):
                return False
            reader, value = value, before
        return False

    def _depths(self) -> dict[fx.Node, int]:
        depth: dict[fx.Node, int] = {}
        for node in self.nodes:
            before = max((depth[x] for x in node.all_input_nodes), default=0)
            depth[node] = before + (node in self._layer_set)
        return depth

    def _first_layers(self) -> frozenset[fx.Node]:
        inputs = [n for n in self.nodes if n.op == "placeholder"]
        return frozenset(self._reach(inputs, lambda n: list(n.users)))

    def _last_layers(self) -> frozenset[fx.Node]:
        outputs = [n for n in self.nodes if n.op == "output"]
        return frozenset(self._reach(outputs, lambda n: list(n.all_input_nodes)))

    def _reach(self, start: list[fx.Node], step: Callable[[fx.Node], list[fx.Node]]) -> Iterator[fx.Node]:
        """Layers that are reached from ``start`` without passing through another layer."""
        every = {n for n in self.nodes if self.is_layer(n)}
        seen, stack = set(start), list(start)
        while stack:
            for node in step(stack.pop()):
                if node in seen:
                    continue
                seen.add(node)
                if node in every:
                    yield node
                else:
                    stack.append(node)
