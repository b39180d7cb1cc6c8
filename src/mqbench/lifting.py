"""Calls with stored parameters become modules again, each under the name its parameters came from."""

from typing import Any

import torch
from torch import fx, nn

from mqbench.nodes import module_of

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
ALIASES = "aliases"


def keep_original_names(graph_module: fx.GraphModule, aliases: dict[str, str]) -> None:
    """Save and load parameters that have another name in the graph under the one of the model."""
    graph_module.meta[ALIASES] = aliases
    graph_module.register_state_dict_post_hook(_save_original_names)
    graph_module.register_load_state_dict_pre_hook(_load_original_names)


def add_alias(graph_module: fx.GraphModule, alias: str, path: str, layer: nn.Module) -> None:
    """Save and load the parameters of a layer at ``alias`` under the name they have at ``path``."""
    for name, _ in layer.named_parameters(recurse=False):
        graph_module.meta[ALIASES][f"{alias}.{name}"] = f"{path}.{name}"


def _save_original_names(module: Any, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for alias, original in module.meta[ALIASES].items():
        if prefix + alias in state:
            state[prefix + original] = state.pop(prefix + alias)


def _load_original_names(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    loaded = {a: state[prefix + o] for a, o in module.meta[ALIASES].items() if prefix + o in state}
    own = dict(module.named_parameters(remove_duplicate=False))
    for original in module.meta[ALIASES].values():
        if original not in own:
            state.pop(prefix + original, None)
    state.update({prefix + alias: value for alias, value in loaded.items()})


class Lift:
    """Replaces calls with parameters by modules, each under the name its parameters came from."""

    def __init__(self, graph_module: fx.GraphModule, source: nn.Module) -> None:
        self.root = graph_module
        self.source = source
        self.made: dict[str, tuple[Any, ...]] = {}
        self.aliases: dict[str, str] = {}
        """Names of parameters in the graph that have another name in the model."""

    def run(self) -> None:
        """Replace every call that has a module form."""
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
        options: list[Any] = [*rest, *defaults[len(rest) :]]
        weight, bias, stride, padding, dilation, groups = options
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
        layer.bias = b
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
        path = module_of(node)[0]
        original = self._original(path)
        kind = _DROPOUTS[node.target]
        if original is None or "dropout" not in type(original).__name__.lower():
            path = node.name  # a function call has no module of its own
        self._replace(node, x, path, kind(p), (kind, p))

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
        return (path if regular else f"{node.name}_layer"), w, b

    def _replace(self, node: fx.Node, x: Any, path: str, layer: nn.Module, config: tuple[Any, ...]) -> None:
        """Point the node at a module under ``path``; one called twice in the same way is made once."""
        if path in self.made and self.made[path] != config:
            path = (
                f"{node.name}_layer"  # the same parameters used in another way: a second module shares them
            )
        if path not in self.made:
            self.made[path] = config
            self._note_aliases(node, path)
            self._keep_others(path, layer)
            self.root.add_submodule(path, layer)
        with self.root.graph.inserting_before(node):
            new = self.root.graph.call_module(path, (x,))
        new.meta.update(node.meta)
        node.replace_all_uses_with(new)
        self.root.graph.erase_node(node)

    def _note_aliases(self, node: fx.Node, path: str) -> None:
        for leaf, argument in zip(("weight", "bias"), node.args[1:3], strict=False):
            if _is_attribute(argument) and str(argument.target) != f"{path}.{leaf}":  # type: ignore[union-attr]
                self.aliases[f"{path}.{leaf}"] = str(argument.target)  # type: ignore[union-attr]

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
