"""In-place operations of a captured graph become functional ones, so that patterns are one shape."""

from typing import Any

import torch
from torch import fx

from mqbench.errors import CaptureError

aten = torch.ops.aten

_SCATTERS: dict[Any, Any] = {
    aten.slice.Tensor: aten.slice_scatter.default,
    aten.select.int: aten.select_scatter.default,
}
_TRANSPOSES = (aten.transpose.int, aten.t.default)
_RESHAPES = (
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
)
VIEWS = frozenset([*_SCATTERS, *_TRANSPOSES, *_RESHAPES, aten.permute.default])


def source_line(node: fx.Node) -> str:
    """' at file:line: code' of the model's line that made a node, as far as it is known."""
    frames = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    places = [i for i, line in enumerate(frames) if line.startswith("File ") and "/torch/" not in line]
    if not places:
        return ""
    code = frames[places[-1] + 1] if places[-1] + 1 < len(frames) else ""
    file, line = frames[places[-1]].split('"')[1], frames[places[-1]].split("line ")[1].split(",")[0]
    return f" at {file}:{line}: {code}"


def _write_back(view: fx.Node, base: fx.Node, value: fx.Node) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The call that puts ``value`` where ``view`` looks into ``base``."""
    if view.target in _SCATTERS:
        return _SCATTERS[view.target], (base, value, *view.args[1:]), dict(view.kwargs)
    if view.target in _TRANSPOSES:
        return view.target, (value, *view.args[1:]), {}
    if view.target is aten.permute.default:
        order: Any = view.args[1]
        inverse = sorted(range(len(order)), key=lambda axis: order[axis] % len(order))
        return aten.permute.default, (value, inverse), {}
    return aten.view_as.default, (value, base), {}


class Functionalise:
    """Turns in-place operations into their functional form; later readers read the new value.

    A write through a slice becomes a scatter into the tensor that was sliced.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.place: dict[fx.Node, fx.Node] = {}
        """Node whose memory a value stands in, for values that were written."""
        self.latest: dict[fx.Node, fx.Node] = {}
        """What that memory holds now."""

    def run(self) -> None:
        """Rewrite every in-place call of the graph."""
        for node in list(self.graph.nodes):
            functional = _functional_form(node)
            if functional is not None and isinstance(node.args[0], fx.Node):
                self._write(node, functional)

    def _write(self, node: fx.Node, functional: Any) -> None:
        written: Any = node.args[0]
        with self.graph.inserting_before(node):
            value = self.graph.call_function(functional, node.args, node.kwargs)
        value.meta.update(node.meta)
        node.replace_all_uses_with(value)
        self.graph.erase_node(node)
        view = self._store(written, value)
        while view.target in VIEWS:
            base: Any = view.args[0]
            held = self.latest.get(self.place.get(base, base), base)
            with self.graph.inserting_after(value):
                value = self.graph.call_function(*_write_back(view, held, value))
            value.meta.update(view.meta, val=held.meta.get("val"))
            view = self._store(held, value)
        if "aten.expand" in str(view.target) or "aten.split" in str(view.target):
            raise CaptureError(f"cannot capture a write through {view.target}{source_line(node)}")

    def _store(self, old: fx.Node, new: fx.Node) -> fx.Node:
        """Readers of ``old`` after ``new`` read ``new``; gives the node whose memory that is."""
        order = {node: place for place, node in enumerate(self.graph.nodes)}
        old.replace_all_uses_with(new, lambda user: order[user] > order[new])
        place = self.place.get(old, old)
        self.place[new], self.latest[place] = place, new
        return place


def _functional_form(node: fx.Node) -> Any:
    """The functional overload of an in-place call (``aten.relu_`` -> ``aten.relu``), else None."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    packet, _, overload = str(node.target).removeprefix("aten.").rpartition(".")
    if not packet.endswith("_") or packet.startswith("_"):
        return None
    return getattr(getattr(aten, packet.rstrip("_"), None), overload, None)
