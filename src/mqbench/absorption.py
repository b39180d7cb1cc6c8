"""What only a quantizer reads is computed by it, in its one pass: activation functions and batch norms; and back.

In the graph of a prepared network ``relu -> quantizer`` becomes ``quantizer(x, activation=("relu",))``, and
a batch norm before that leaves its computation to the quantizer while training. Max pooling comes before a
clipping activation function, with which it commutes (gradients too: a window that is clipped as a whole has none), so
that less is clipped, and perhaps by a quantizer. A converted network shows the operations as they were.
"""

from typing import Any

import torch
from torch import fx, nn

from mqbench.deferring import deferring, plain
from mqbench.fused.activation import CLIPS
from mqbench.fused.pooling import max_pool2d
from mqbench.layers import QuantizedLayer
from mqbench.quantizer import FakeQuantize

aten = torch.ops.aten

_TARGETS: dict[Any, str] = {getattr(aten, name).default: name for name in CLIPS}
_FAST: dict[Any, Any] = {aten.max_pool2d.default: max_pool2d}
"""Operations with a form here that gives the same numbers sooner."""
_POOLS_FIRST = "pools_first"
_ABSORBED = "absorbed"
"""In the metadata of a quantizer's node: name and metadata of the activation function's node."""


def absorb(graph_module: fx.GraphModule) -> None:
    """Let quantizers compute the clipping activation functions that nothing else reads."""
    modules = dict(graph_module.named_modules(remove_duplicate=False))
    _exchange(graph_module, _FAST)
    _pool_first(graph_module)
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
    _defer_data(graph_module, modules)


def _defer_data(graph_module: fx.GraphModule, modules: dict[str, nn.Module]) -> None:
    """Tell the quantizers of data which nothing but layers reads."""
    fed: dict[FakeQuantize, bool] = {}
    for node in graph_module.graph.nodes:
        quantizer = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(quantizer, FakeQuantize):
            data = isinstance(node.args[0], fx.Node) and node.args[0].op == "placeholder"
            layers = all(isinstance(modules.get(str(r.target)), QuantizedLayer) for r in node.users)
            fed[quantizer] = fed.get(quantizer, True) and data and layers
    for quantizer, feeds in fed.items():
        quantizer.feeds_layers = feeds


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
    _pool_last(graph_module)
    _exchange(graph_module, {fast: plain for plain, fast in _FAST.items()})
    for path, module in list(graph_module.named_modules()):
        if (norm := plain(module)) is not module:
            graph_module.set_submodule(path, norm)


def _pool_first(graph_module: fx.GraphModule) -> None:
    """``pool(clip(x))`` becomes ``clip(pool(x))`` where nothing else reads the clipped tensor."""
    for pool in list(graph_module.graph.nodes):
        clip = pool.args[0] if pool.target is max_pool2d else None
        if isinstance(clip, fx.Node) and clip.target in _TARGETS and len(clip.users) == 1:
            _change_places(clip, pool)
            pool.meta[_POOLS_FIRST] = True


def _pool_last(graph_module: fx.GraphModule) -> None:
    """Undo `_pool_first`."""
    for pool in list(graph_module.graph.nodes):
        if pool.meta.pop(_POOLS_FIRST, False):
            _change_places(pool, next(iter(pool.users)))


def _change_places(first: fx.Node, second: fx.Node) -> None:
    """Of two nodes of which the second alone reads the first; each keeps its name and its other arguments."""
    second.args = (first.args[0], *second.args[1:])
    second.replace_all_uses_with(first)
    first.args = (second, *first.args[1:])
    second.append(first)
    first.meta["val"], second.meta["val"] = second.meta.get("val"), first.meta.get("val")


def _exchange(graph_module: fx.GraphModule, targets: dict[Any, Any]) -> None:
    for node in graph_module.graph.nodes:
        if node.op == "call_function":
            node.target = targets.get(node.target, node.target)


def _is_quantizer(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(modules.get(str(node.target)), FakeQuantize)
