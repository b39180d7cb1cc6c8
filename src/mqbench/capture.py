"""Float model to graph: `torch.export`, then lifted back to modules under their original names."""

import copy
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim

import mqbench
from mqbench.errors import CaptureError

aten = torch.ops.aten

_CONVOLUTIONS: dict[Any, type[nn.Module]] = {
    aten.conv1d.default: nn.Conv1d,
    aten.conv1d.padding: nn.Conv1d,
    aten.conv2d.default: nn.Conv2d,
    aten.conv2d.padding: nn.Conv2d,
    aten.conv3d.default: nn.Conv3d,
    aten.conv3d.padding: nn.Conv3d,
}
_BATCH_NORMS: dict[int, type[nn.Module]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
_DROPOUTS: dict[Any, type[nn.Module]] = {
    aten.dropout.default: nn.Dropout,
    aten.feature_dropout.default: nn.Dropout2d,
    aten.alpha_dropout.default: nn.AlphaDropout,
    aten.feature_alpha_dropout.default: nn.FeatureAlphaDropout,
}
_VIEWS = ("view", "slice", "select", "transpose", "permute", "expand", "unsqueeze", "squeeze", "chunk", "split")


def capture(model: nn.Module, example_inputs: Tensor | Sequence[Tensor]) -> fx.GraphModule:
    """Capture a float model as a graph whose layers are modules under their original names.

    Convolution, linear, batch-norm and dropout calls become modules again, so parameter names, ``train()``,
    and checkpoints work as before; everything else stays a function call, in-place operations turned
    into their functional form. The model is traced in eval mode with a dynamic batch and is not changed;
    the result has the training mode of the model.

    Args:
        model: any float model that `torch.export` takes.
        example_inputs: one tensor or several; dimension 0 is the batch.

    Raises:
        CaptureError: the model cannot be exported (control flow that depends on data, a batch size that
            is fixed in the code), naming the line of the model at fault; or the graph does not compute
            what the model computes.
    """
    inputs = _batch_of_two(example_inputs)
    training = model.training
    source = copy.deepcopy(model).eval()
    graph_module = _export(source, inputs)
    _make_functional(graph_module.graph)
    _Lift(graph_module, source).run()
    graph_module.graph.eliminate_dead_code()
    # a fresh GraphModule: the exported one refuses train() and eval()
    captured = fx.GraphModule(graph_module, graph_module.graph)
    captured.eval()
    _check_equal(source, captured, inputs)
    return captured.train(training)


def _batch_of_two(example_inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    for x in inputs:
        if not isinstance(x, Tensor) or x.dim() == 0 or x.numel() == 0:
            got = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise CaptureError(f"example_inputs must be non-empty tensors with a batch dimension, got {got}")
    if not inputs:
        raise CaptureError("example_inputs must hold at least one tensor, got none")
    # a batch of one would be specialised by the exporter
    return tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in inputs)


def _export(model: nn.Module, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    dynamic = tuple({0: Dim.AUTO} for _ in inputs)
    try:
        with torch.no_grad():
            program = torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
    except Exception as error:
        line = _model_line(error.__traceback__)
        reason = str(error).strip().partition("\n")[0]
        raise CaptureError(f"cannot capture {type(model).__name__}{line}: {reason}") from error
    graph_module: fx.GraphModule = program.module(check_guards=False)  # type: ignore[assignment]
    for node in graph_module.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val")
        if isinstance(value, Tensor) and isinstance(value.shape[0], int):
            raise CaptureError(
                f"cannot capture {type(model).__name__}: its code fixes the batch size to {value.shape[0]}"
                f"{_fixing_line(graph_module)}; take sizes from the input (x.shape[0] or -1) instead"
            )
    return graph_module


def _model_line(trace: TracebackType | None) -> str:
    """' at file:line: code' of the deepest frame that is the model's own, not torch's or ours."""
    ours = [str(Path(package.__file__ or "").parent) for package in (torch, mqbench)]
    for frame in reversed(traceback.extract_tb(trace)):
        if not any(frame.filename.startswith(folder) for folder in ours) and frame.lineno:
            return f" at {frame.filename}:{frame.lineno}: {frame.line}"
    return ""


def _fixing_line(graph_module: fx.GraphModule) -> str:
    """Where a reshape writes the batch size as a number, if one does."""
    for node in graph_module.graph.nodes:
        if node.target in (aten.view.default, aten.reshape.default, aten.expand.default):
            frames = (node.meta.get("stack_trace") or "").strip().splitlines()
            if frames:
                return f" (see {frames[-1].strip()!r})"
    return ""


def _make_functional(graph: fx.Graph) -> None:
    """Turn in-place operations into their functional form; later readers read the new value.

    One that writes through a view keeps its place: it runs in order, and the base sees the change.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        name, _, overload = node.target._schema.name.removeprefix("aten::"), None, node.target._overloadname
        if not name.endswith("_") or name.startswith("_") or not isinstance(node.args[0], fx.Node):
            continue
        functional = getattr(getattr(aten, name.rstrip("_"), None), overload, None)
        written = node.args[0]
        if functional is None or _is_view(written) or any(_is_view(user) for user in written.users):
            continue
        node.target = functional
        node.name = node.name.rstrip("_")
        order = {n: i for i, n in enumerate(graph.nodes)}
        written.replace_all_uses_with(node, lambda user, n=node, o=order: o[user] > o[n])


def _is_view(node: fx.Node) -> bool:
    return node.op == "call_function" and any(v in str(node.target) for v in _VIEWS)


def _check_equal(model: nn.Module, captured: fx.GraphModule, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        want, got = (torch.utils._pytree.tree_leaves(m(*inputs)) for m in (model, captured))
    for a, b in zip(want, got, strict=True):
        if isinstance(a, Tensor) and not torch.equal(a.nan_to_num(), b.nan_to_num()):
            worst = (a - b).abs().max().item()
            raise CaptureError(f"the captured graph of {type(model).__name__} is off by up to {worst:.3g}")


class _Lift:
    """Replaces calls with parameters by modules, each under the name its parameters came from."""

    def __init__(self, graph_module: fx.GraphModule, source: nn.Module) -> None:
        self.root = graph_module
        self.source = source
        self.made: dict[str, tuple[Any, ...]] = {}

    def run(self) -> None:
        for node in list(self.root.graph.nodes):
            if node.op != "call_function":
                continue
            if node.target in _CONVOLUTIONS:
                self._convolution(node)
            elif node.target is aten.linear.default:
                self._linear(node)
            elif node.target is aten.batch_norm.default:
                self._batch_norm(node)
            elif node.target in _DROPOUTS:
                self._dropout(node)

    def _convolution(self, node: fx.Node) -> None:
        x, *rest = node.args
        defaults: list[Any] = [None, None, 1, 0, 1, 1]
        weight, bias, stride, padding, dilation, groups = [*rest, *defaults[len(rest) :]]
        found = self._parameters(node, weight, bias)
        if found is None:
            return
        path, w, b = found
        kind = _CONVOLUTIONS[node.target]
        with torch.device("meta"):
            layer: Any = kind(
                w.shape[1] * groups,
                w.shape[0],
                tuple(w.shape[2:]),
                stride=_plain(stride),
                padding=_plain(padding),
                dilation=_plain(dilation),
                groups=groups,
                bias=b is not None,
            )
        layer.weight, layer.bias = w, b
        self._replace(node, x, path, layer, (kind, stride, padding, dilation, groups, bias is None))

    def _linear(self, node: fx.Node) -> None:
        x, weight, *rest = node.args
        found = self._parameters(node, weight, rest[0] if rest else None)
        if found is None:
            return
        path, w, b = found
        with torch.device("meta"):
            layer = nn.Linear(w.shape[1], w.shape[0], bias=b is not None)
        layer.weight = w
        layer.bias = b  # type: ignore[assignment]
        self._replace(node, x, path, layer, (nn.Linear, b is None))

    def _batch_norm(self, node: fx.Node) -> None:
        x, weight, bias, mean, var, _training, momentum, eps, _cudnn = node.args
        if not (_is_attribute(mean) and _is_attribute(var) and isinstance(x, fx.Node)):
            return
        assert isinstance(mean, fx.Node)
        path, _, leaf = str(mean.target).rpartition(".")
        if leaf != "running_mean" or _is_attribute(weight) != _is_attribute(bias):
            return
        w, b = (self._attribute(a) for a in (weight, bias))
        running_mean, running_var = self._attribute(mean), self._attribute(var)
        assert running_mean is not None
        kind = _BATCH_NORMS[x.meta["val"].dim()]
        original = self._original(path)
        momentum = getattr(original, "momentum", momentum)
        layer: Any = kind(running_mean.numel(), eps=eps, momentum=momentum, affine=w is not None)
        layer.weight, layer.bias = w, b
        layer.running_mean, layer.running_var = running_mean, running_var
        tracked = getattr(original, "num_batches_tracked", None)
        if tracked is not None:
            layer.num_batches_tracked = tracked
        self._replace(node, x, path, layer, (kind, eps, momentum))

    def _dropout(self, node: fx.Node) -> None:
        x, p, *_ = node.args
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = stack[-1][0] if stack else ""
        original = self._original(path)
        is_dropout = isinstance(original, nn.modules.dropout._DropoutNd)
        layer = copy.copy(original) if is_dropout else _DROPOUTS[node.target](p)
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]
        self._replace(node, x, path if is_dropout else node.name, layer, (type(layer), p))

    def _original(self, path: str) -> nn.Module | None:
        try:
            return self.source.get_submodule(path)
        except AttributeError:
            return None

    def _attribute(self, node: Any) -> Any:
        if not _is_attribute(node):
            return None
        path, _, leaf = str(node.target).rpartition(".")
        return getattr(self.root.get_submodule(path), leaf)

    def _parameters(self, node: fx.Node, weight: Any, bias: Any) -> tuple[str, Any, Any] | None:
        """Path, weight and bias of a layer, or None if its weight is computed rather than stored."""
        w, b = self._attribute(weight), self._attribute(bias)
        if not isinstance(w, nn.Parameter) or (bias is not None and not isinstance(b, nn.Parameter)):
            return None
        path, _, leaf = str(weight.target).rpartition(".")
        regular = leaf == "weight" and path and (bias is None or str(bias.target) == f"{path}.bias")
        return (path if regular else node.name), w, b

    def _replace(self, node: fx.Node, x: Any, path: str, layer: nn.Module, config: tuple[Any, ...]) -> None:
        """Point the node at a module under ``path``; one called twice in the same way is made once."""
        if path in self.made and self.made[path] != config:
            path = node.name  # the same parameters used in another way: a second module shares them
        if path not in self.made:
            self.made[path] = config
            self._keep_others(path, layer)
            self.root.add_submodule(path, layer)
        with self.root.graph.inserting_before(node):
            new = self.root.graph.call_module(path, (x,))
        new.meta.update(node.meta)
        node.replace_all_uses_with(new)
        self.root.graph.erase_node(node)

    def _keep_others(self, path: str, layer: nn.Module) -> None:
        """Carry over what else lives under the path (parametrizations, adapters)."""
        try:
            old = self.root.get_submodule(path)
        except AttributeError:
            return
        for name, child in old.named_children():
            layer.add_module(name, child)
        for name, parameter in old.named_parameters(recurse=False):
            if not hasattr(layer, name):
                layer.register_parameter(name, parameter)


def _is_attribute(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
