"""Activation functions and additions that write over their input, where no other reads it: as float networks do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from mqbench.fused.activation import CLIPS
from mqbench.layers import BATCH_NORMS, QuantizedLayer

aten = torch.ops.aten

_CLIPS = {getattr(aten, name).default: getattr(aten, f"{name}_").default for name in CLIPS}
_IN_PLACE = {**_CLIPS, aten.add.Tensor: aten.add_.Tensor}
_FRESH = (QuantizedLayer, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *BATCH_NORMS)
"""Modules whose output is a new tensor, which nothing else holds."""


@contextmanager
def overwriting(model: fx.GraphModule) -> Iterator[None]:
    """Inside, the network computes the same with less memory traffic; for passes without gradients.

    Nothing is overwritten that a hook of a module sees.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    changed: list[tuple[fx.Node, Any, Any, Any]] = []
    added: list[fx.Node] = []
    for node in list(model.graph.nodes):
        if not node.args or not isinstance(node.args[0], fx.Node) or not _is_own(node.args[0], modules):
            continue
        state = node, node.target, node.args, node.kwargs
        if node.op == "call_function" and node.target in _IN_PLACE and _keeps_form(node):
            changed.append(state)
            node.target = _IN_PLACE[node.target]
        elif "activation" in node.kwargs and not _is_watched(modules[str(node.target)]):
            changed.append(state)
            name, *numbers = node.kwargs["activation"]
            with model.graph.inserting_before(node):
                target = _CLIPS[getattr(aten, name).default]
                added.append(model.graph.call_function(target, (node.args[0], *numbers)))
            node.args, node.kwargs = (added[-1],), {}
    model.recompile()
    try:
        yield
    finally:
        for node, target, args, kwargs in changed:
            node.target, node.args, node.kwargs = target, args, kwargs
        for node in added:
            model.graph.erase_node(node)
        model.recompile()


def _is_own(x: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether the one reader of a value may write over it."""
    if len(x.users) != 1:
        return False
    if x.op == "call_module":
        module = modules[str(x.target)]
        return isinstance(module, _FRESH) and not _is_watched(module)
    return x.op == "call_function" and x.target in (aten.add.Tensor, aten.add_.Tensor)


def _is_watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _keeps_form(node: fx.Node) -> bool:
    """Whether the result has the shape and type of the first operand."""
    after, before = node.meta.get("val"), node.args[0].meta.get("val")  # type: ignore[union-attr]
    if not isinstance(after, torch.Tensor) or not isinstance(before, torch.Tensor):
        return False
    return after.shape == before.shape and after.dtype == before.dtype
