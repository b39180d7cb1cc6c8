"""What only a quantizer reads is computed by it, in its one pass: activation functions and batch norms; and back.

In the graph of a prepared network ``relu -> quantizer`` becomes ``quantizer(x, activation=("relu",))``, and
a batch norm before that leaves its computation to the quantizer while training. A converted network shows
the operations as they were.
"""

from typing import Any

import torch
from torch import fx, nn

from mqbench.deferring import deferring, plain
from mqbench.fused.activation import CLIPS
from mqbench.layers import QuantizedLayer
from mqbench.quantizer import FakeQuantize

aten = torch.ops.aten

_TARGETS: dict[Any, str] = {getattr(aten, name).default: name for name in CLIPS}
_ABSORBED = "absorbed"
"""In the metadata of a quantizer's node: name and metadata of the activation function's node."""


def absorb(graph_module: fx.GraphModule) -> None:
    """Let quantizers compute the clipping activation functions that nothing else reads."""
    modules = dict(graph_module.named_modules(remove_duplicate=False))
    for node in list(graph_module.graph.nodes):
        name = _TARGETS.get(node.target) if node.op == "call_function" else None
        readers = list(node.users)
        if name is None or node.kwargs or not all(_is_quantizer(r, modules) for r in readers):
            continue
        x, *numbers = node.args
        for reader in readers:
            reader.args = (x,)
            reader.kwargs = {"activation": (name, *numbers)}
            reader.meta[_ABSORBED] = node.name, dict(node.meta)
        graph_module.graph.erase_node(node)
    _defer_norms(graph_module, modules)


def _defer_norms(graph_module: fx.GraphModule, modules: dict[str, nn.Module]) -> None:
    """Let a batch norm, folded or not, whose only reader is a quantizer be computed by that."""
    calls: dict[str, list[fx.Node]] = {}
    for node in graph_module.graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    for path, nodes in calls.items():
        module = graph_module.get_submodule(path)
        readers = [list(node.users) for node in nodes]
        only_quantizers = all(len(r) == 1 and _is_quantizer(r[0], modules) for r in readers)
        if isinstance(module, QuantizedLayer):
            module.defers = only_quantizers
        elif (norm := deferring(module, only_quantizers)) is not None:
            graph_module.set_submodule(path, norm)


def release(graph_module: fx.GraphModule) -> None:
    """Undo `absorb`: activation functions are nodes of the graph again, one for all who read it."""
    made: dict[Any, fx.Node] = {}
    for node in list(graph_module.graph.nodes):
        if "activation" not in node.kwargs:
            continue
        name, *numbers = activation = node.kwargs["activation"]
        key = node.args[0], activation
        if key not in made:
            own_name, meta = node.meta.get(_ABSORBED, (name, {}))
            with graph_module.graph.inserting_before(node):
                target, args = getattr(aten, name).default, (node.args[0], *numbers)
                made[key] = graph_module.graph.create_node("call_function", target, args, name=own_name)
            made[key].meta.update(meta)
        node.args, node.kwargs = (made[key],), {}
    for path, module in list(graph_module.named_modules()):
        if (norm := plain(module)) is not module:
            graph_module.set_submodule(path, norm)


def _is_quantizer(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules.get(str(node.target)), FakeQuantize)
