"""The rules of graphs 1, 2 and 3 (SPEC section 10), read off a prepared network, with no help of `placement`.

A tensor is *on a grid* if its values come from an activation quantizer by operations that move or pick
values. `violations` lists every node that breaks a rule.
"""

from collections.abc import Iterator

from torch import Tensor, fx, nn

from mqbench.attention import QuantizedAttention
from mqbench.conversion import DeployedQuantizer
from mqbench.layers import BATCH_NORMS, DeployedLayer, QuantizedLayer
from mqbench.quantizer import FakeQuantize

PICKS = {
    "max_pool2d", "flatten", "view", "reshape", "permute", "transpose", "unsqueeze", "expand", "contiguous", "slice",
    "select", "chunk", "unbind", "roll", "pad", "upsample_nearest2d", "getitem",
}  # fmt: skip
AVERAGES = {"mean", "adaptive_avg_pool2d", "avg_pool2d"}
FLOAT = {"softmax", "layer_norm"}
FUSED = {"norm", "relu", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu"}
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "quantizer": (FakeQuantize, DeployedQuantizer),
    "layer": (QuantizedLayer, DeployedLayer),
    "norm": BATCH_NORMS,
    "dropout": (nn.Dropout,),
    "attention": (QuantizedAttention,),
}


class Rules:
    """What a prepared graph is asked."""

    def __init__(self, prepared: fx.GraphModule) -> None:
        self.nodes = list(prepared.graph.nodes)
        self.modules = dict(prepared.named_modules(remove_duplicate=False))
        self.stored = {name for name, _ in [*prepared.named_parameters(), *prepared.named_buffers()]}

    def kind(self, node: fx.Node) -> str:
        """'add', 'mul', ... of a call; 'quantizer', 'layer', 'norm', 'dropout', 'attention' of a module."""
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            return next((name for name, types in KINDS.items() if isinstance(module, types)), node.op)
        if node.op == "call_function":
            name = str(node.target)
            return (
                name.split(".")[1]
                if name.startswith("aten.")
                else str(getattr(node.target, "__name__", name))
            )
        return node.op

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """Floating-point tensor inputs, those of a list included."""
        values = [(n, n.meta.get("val")) for n in node.all_input_nodes]
        return [n for n, value in values if not isinstance(value, Tensor) or value.is_floating_point()]

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """Inputs of an add or multiply, without a stored vector or number, which merges as a batch norm does."""
        return [x for x in self.inputs(node) if not self.is_stored_vector(x)]

    def is_stored_vector(self, node: fx.Node) -> bool:
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or sum(size != 1 for size in value.shape) > 1:
            return False
        while self.kind(node) in PICKS:
            node = node.all_input_nodes[0]
        return node.op == "get_attr"

    def moves(self, node: fx.Node) -> bool:
        return self.kind(node) in (*PICKS, "dropout")

    def grids(self, node: fx.Node) -> set[str]:
        """Quantizers that the values of a tensor come from; {'float'} if one is on no grid."""
        if self.kind(node) == "quantizer":
            return {str(node.target)}
        if self.moves(node):
            return self.grids(node.all_input_nodes[0])
        if self.kind(node) == "cat":
            return set().union(*(self.grids(x) for x in self.inputs(node)))
        return {"float"}

    def is_quantized(self, node: fx.Node) -> bool:
        return "float" not in self.grids(node)

    def readers(self, node: fx.Node) -> Iterator[fx.Node]:
        """Who reads a tensor, looked at through moves."""
        for user in node.users:
            if self.moves(user):
                yield from self.readers(user)
            else:
                yield user

    def accumulator(self, node: fx.Node) -> bool:
        """The result of a layer, with a batch norm, stored factor and dropout at most, that nobody else sees."""
        through = ("quantizer", "norm", "dropout")
        while len(node.users) == 1 and (self.kind(node) in through or self._is_affine(node)):
            if self.absorbs(node):
                return False
            node = next(x for x in self.inputs(node) if not self.is_stored_vector(x))
        return self.kind(node) == "layer" and len(node.users) == 1

    def absorbs(self, node: fx.Node) -> bool:
        """A quantizer that computes the activation function in front of it too."""
        return "activation" in node.kwargs

    def _is_affine(self, node: fx.Node) -> bool:
        return self.kind(node) in ("mul", "add") and len(self.operands(node)) < len(self.inputs(node))


def violations(prepared: fx.GraphModule, graph: int) -> list[str]:
    """Every broken rule, as 'node: what is wrong'."""
    rules = Rules(prepared)
    check = _private if graph == 1 else _shared
    return [f"{node.name}: {wrong}" for node in rules.nodes for wrong in check(rules, node, graph)]


def counts(prepared: fx.GraphModule) -> dict[str, int]:
    """How many nodes of each kind there are, so that a test cannot pass by seeing none."""
    rules = Rules(prepared)
    found: dict[str, int] = {}
    for node in rules.nodes:
        kind = rules.kind(node)
        joins = kind in ("add", "mul") and len(rules.operands(node)) > 1
        if joins or kind not in ("add", "mul"):
            found[kind] = found.get(kind, 0) + 1
    return found


def _private(rules: Rules, node: fx.Node, graph: int) -> Iterator[str]:
    """Graph 1: a layer reads a quantizer that nobody else reads, and there is no other quantizer."""
    kind = rules.kind(node)
    if kind == "layer":
        before = node.all_input_nodes[0]
        if rules.kind(before) != "quantizer" or len(before.users) != 1:
            yield "layer input is not quantized for it alone"
    if kind == "quantizer" and any(rules.kind(user) != "layer" for user in node.users):
        yield "quantizer not at a layer"


def _shared(rules: Rules, node: fx.Node, graph: int) -> Iterator[str]:
    """Graphs 2 and 3: one quantizer a tensor, in front of all integer operations."""
    kind, inputs = rules.kind(node), rules.inputs(node)
    if kind in ("layer", *AVERAGES) and not rules.is_quantized(inputs[0]):
        yield "input is not quantized"
    if kind in AVERAGES and any(rules.kind(reader) == "layer" for reader in rules.readers(node)):
        yield "average is read without a quantizer behind it"
    if kind in ("add", "sub", "mul") and len(operands := rules.operands(node)) > 1:
        plain = [x for x in operands if not rules.is_quantized(x)]
        fused = [x for x in operands if rules.accumulator(x)] if kind != "mul" and graph == 2 else []
        if fused and (len(plain) != 1 or plain[0] not in fused):
            yield f"one branch must stay in the accumulator, {len(plain)} do"
        if not fused and plain:
            yield "an operand is not quantized"
    if kind in ("matmul", "bmm", "attention", "scaled_dot_product_attention"):
        if not all(rules.is_quantized(x) for x in inputs):
            yield "a matrix is not quantized"
        if kind == "scaled_dot_product_attention":
            yield "the attention probabilities are not quantized"
    if kind == "cat" and (
        len(grids := set().union(*(rules.grids(x) for x in inputs))) != 1 or "float" in grids
    ):
        yield f"inputs do not share one quantizer: {sorted(grids)[:3]}"
    if kind == "quantizer":
        yield from _quantizer(rules, node)
    if kind == "output" and any(rules.kind(x) == "quantizer" for x in inputs):
        yield "the network's output is quantized"


def _quantizer(rules: Rules, node: fx.Node) -> Iterator[str]:
    source = node.all_input_nodes[0]
    # what is quantized behind an absorbed activation function is no node of the graph, and nobody else reads it
    kind, whole = ("absorbed", False) if rules.absorbs(node) else (rules.kind(source), True)
    if kind in ("cat", "quantizer") or (whole and rules.moves(source)):
        yield f"quantized again behind {kind}"
    others = [u for u in source.users if u is not node and rules.kind(u) != "output"]
    if others and whole:
        yield f"{others[0].name} reads the tensor without the quantizer"
    fused = all(rules.kind(user) in FUSED or rules.absorbs(user) for user in node.users)
    if kind in ("layer", "norm", "add") and fused:
        yield f"splits a {kind} from what is fused behind it"
    if all(rules.kind(reader) in FLOAT for reader in rules.readers(node)):
        yield "serves nothing but float operations"
