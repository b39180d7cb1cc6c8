"""Float model + algorithm + backend -> a graph of quantized modules that trains like any module."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from torch import Tensor, fx, nn

from mqbench.absorption import absorb
from mqbench.attention import QuantizedAttention, has_float_mask, options
from mqbench.backends._base import Overrides
from mqbench.capture import capture
from mqbench.deferring import Deferring
from mqbench.errors import IncompatibleError, RequestError
from mqbench.layers import QUANTIZABLE, QuantizedLayer
from mqbench.lifting import add_alias
from mqbench.nodes import flat_name
from mqbench.placement import Group, Placement
from mqbench.plan import Plan
from mqbench.quantizer import FakeQuantize

QUANTIZERS = "activation_quantizers"
MERGED = "merged"


def prepare(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    *,
    backend: str,
    algorithm: str,
    bits: int | tuple[int, int] = 4,
    bn_folding: int | None = None,
    graph: int | None = None,
    first_last_bits: int = 8,
    overrides: Overrides = Overrides(),  # noqa: B008 (frozen)
    skip: str | Iterable[str] = (),
    layer_bits: Mapping[str, int] = MappingProxyType({}),
) -> fx.GraphModule:
    """Make the quantized network that a backend will run, ready to calibrate and train.

    The model is not changed. Parameters keep their names, so float checkpoints load into the result and
    its checkpoints into the float model (``strict=False``, for the quantizers' own entries).

    Args:
        model: a float model that `torch.export` takes.
        example_inputs: one tensor or several, batch first.
        backend, algorithm: names from ``mqbench.backends`` and ``mqbench.algorithms``.
        bits: of weights and activations, or ``(weight, activation)``.
        bn_folding: strategy -1 to 4 of the paper's section 3.2; None takes the backend's.
        graph: 1, 2 or 3 of the paper's Fig. 4; None takes the backend's.
        first_last_bits: bits of the weights and input activations of the first and last layer.
        overrides: single properties in place of the backend's, such as ``Overrides(power_of_two=True)``.
        skip: names of layers to leave in float.
        layer_bits: bits of single layers by name, for the weight and for the tensor that enters it (which
            other layers may read too); `mqbench.diagnose` tells which layers are worth it.

    Returns:
        A GraphModule; `calibrate` it before use.

    Raises:
        UnknownNameError, IncompatibleError, CaptureError, RequestError: see their messages.

    Warns:
        UserWarning: layers that stay in float (transposed convolutions, computed weights).

    >>> import torch, mqbench
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    >>> x = torch.randn(2, 3, 8, 8)
    >>> q = mqbench.prepare(net, x, backend="tensorrt", algorithm="lsq", bits=4)
    >>> mqbench.calibrate(q, [x])
    >>> q(x).shape
    torch.Size([2, 8, 6, 6])
    """
    plan = Plan.make(
        backend=backend,
        algorithm=algorithm,
        bits=bits,
        bn_folding=bn_folding,
        graph=graph,
        first_last_bits=first_last_bits,
        overrides=overrides,
        layer_bits=layer_bits,
    )
    check_model(model)
    return insert_quantizers(capture(model, example_inputs), plan, skip)


def insert_quantizers(
    graph_module: fx.GraphModule, plan: Plan, skip: str | Iterable[str] = ()
) -> fx.GraphModule:
    """Make a captured network the quantized one of a plan, in place; `prepare` is this behind a capture.

    Args:
        graph_module: from `capture`; it is changed and returned.
        plan: from ``Plan.make``.
        skip: names of layers to leave in float.

    Raises:
        RequestError: no layer to quantize, or a name in ``skip`` or the plan's ``layer_bits`` that is no layer.
    """
    skipped = (skip,) if isinstance(skip, str) else tuple(skip)
    _check_layers(graph_module, skipped, "skip")
    _check_layers(graph_module, plan.layer_bits, "give bits to")
    if both := [name for name in skipped if name in plan.layer_bits]:
        raise RequestError(f"{both[0]!r} is to be skipped, so it cannot have layer_bits")
    placement = Placement(graph_module, plan.graph, skipped, shared_concat=plan.library.shared_concat)
    if not placement.layers:
        raise RequestError("the network has no convolution or linear layer to quantize")
    if names := placement.left_float():
        warnings.warn(
            f"these layers stay in float, because their weight is computed or their kind has no quantized "
            f"form: {', '.join(names)}",
            stacklevel=3,
        )
    groups = placement.groups()
    _Editor(graph_module, plan, placement).edit(groups)
    graph_module.meta["plan"] = plan
    return graph_module


def quantizers(model: nn.Module) -> Iterator[tuple[str, FakeQuantize]]:
    """Name and fake quantizer of every one in a prepared network."""
    for name, module in model.named_modules():
        if isinstance(module, FakeQuantize):
            yield name, module


@contextmanager
def quantization_off(model: nn.Module) -> Iterator[None]:
    """Inside, the prepared network computes the float network.

    Equal to the bit with batch norm unfolded (-1), within float rounding otherwise.
    """
    every = [module for module in model.modules() if isinstance(module, (FakeQuantize, Deferring))]
    before = [module.enabled for module in every]
    try:
        for module in every:
            module.enabled = False
        yield
    finally:
        for module, enabled in zip(every, before, strict=True):
            module.enabled = enabled


def check_model(model: object) -> None:
    """Raise ``RequestError`` unless it is a float model."""
    if not isinstance(model, nn.Module):
        raise RequestError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if any(True for _ in quantizers(model)):
        raise RequestError("the model is quantized already; mqbench.prepare takes the float model")
    if hasattr(model, QUANTIZERS):
        raise RequestError(f"the model has an attribute {QUANTIZERS!r}, which is needed here; rename it")


def _check_layers(graph_module: fx.GraphModule, names: Iterable[str], what: str) -> None:
    layers = [name for name, module in graph_module.named_modules() if isinstance(module, QUANTIZABLE)]
    unknown = [name for name in names if name not in layers]
    if unknown:
        raise RequestError(
            f"cannot {what} {unknown[0]!r}: not a layer of this network; layers: {', '.join(layers)}"
        )


def _refuse_batch_norms(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    unmerged = [norm for norm in module.meta[MERGED] if f"{prefix}{norm}.running_var" in state]
    if unmerged:
        raise RequestError(
            f"strategy 0 has merged {unmerged[0]!r} into the layer before it, so a float checkpoint does not fit any "
            "more; load it into the float model before mqbench.prepare"
        )


class _Editor:
    """Carries out a placement: swaps layers, folds batch norms, inserts activation quantizers."""

    def __init__(self, graph_module: fx.GraphModule, plan: Plan, placement: Placement) -> None:
        self.root = graph_module
        self.graph = graph_module.graph
        self.plan = plan
        self.placement = placement
        self._layers: dict[tuple[str, str | None], str] = {}
        self._names: set[str] = set()

    def edit(self, groups: list[Group]) -> None:
        training = self.root.training
        for group in groups:
            self._insert(group)
        for node in self.placement.attentions():
            self._attend(node)
        for node in self.placement.layers:
            self._swap(node)
        if self.plan.folding.merges_at_once:
            self._refuse_unmerged_checkpoints()
        absorb(self.root)
        self.root.delete_all_unused_submodules()
        self.graph.lint()
        self.root.recompile()
        self.root.train(training)

    def _insert(self, group: Group) -> None:
        name = self._unique(group.name)
        target = f"{QUANTIZERS}.{name}"
        quantizer = self.plan.quantizer("activation", group.first_or_last, layers=group.layers)
        self.root.add_submodule(target, quantizer)
        for source in group.sources:
            after = source if source.op != "placeholder" else self.graph.find_nodes(op="placeholder")[-1]
            readers = [reader for reader in source.users if reader.op != "output"]
            with self.graph.inserting_after(after):
                quantized = self._call(target, source)
            for reader in readers:
                reader.replace_input_with(source, quantized)
        for reader, source in group.edges:
            with self.graph.inserting_before(reader):
                quantized = self._call(target, source)
            reader.args = (quantized, *reader.args[1:])

    def _attend(self, node: fx.Node) -> None:
        """Put a quantizer between the softmax of an attention call and its second matrix product."""
        target = f"{QUANTIZERS}.{self._unique(flat_name(node).removeprefix('scaled_dot_product_'))}"
        scores = self.plan.quantizer("activation", False) if has_float_mask(node) else None
        module = QuantizedAttention.of(node, self.plan.quantizer("activation", False), scores)
        self.root.add_submodule(target, module)
        mask = options(node).get("attn_mask")
        with self.graph.inserting_before(node):
            new = self.graph.call_module(target, (*node.args[:3], *([] if mask is None else [mask])))
        new.meta.update(node.meta)
        node.replace_all_uses_with(new)
        self.graph.erase_node(node)

    def _call(self, target: str, source: fx.Node) -> fx.Node:
        node = self.graph.call_module(target, (source,))
        node.meta["val"] = source.meta.get("val")
        return node

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            unique, count = f"{name}_{count}", count + 1
        self._names.add(unique)
        return unique

    def _swap(self, node: fx.Node) -> None:
        norm_node = self.placement.batch_norm_behind(node) if self.plan.bn_folding != -1 else None
        norm_path = None if norm_node is None else str(norm_node.target)
        key = str(node.target), norm_path
        if key not in self._layers:
            self._layers[key] = self._make_layer(node, norm_path)
        node.target = self._layers[key]
        if norm_node is None:
            return
        assert norm_path is not None
        folding = self.plan.folding
        if not folding.merges_at_once:
            with self.graph.inserting_before(node):
                node.args = (node.args[0], *self._batch_norm_tensors(norm_path))
        norm_node.replace_all_uses_with(node)
        self.graph.erase_node(norm_node)

    def _make_layer(self, node: fx.Node, norm_path: str | None) -> str:
        path = str(node.target)
        layer: Any = self.placement.modules[path]
        first_or_last = any(other.target == node.target for other in self.placement.first_and_last)
        quantizer = self.plan.quantizer(
            "weight", first_or_last, layers=(path,), channels=layer.weight.shape[0]
        )
        quantized = QuantizedLayer(layer, quantizer.to(layer.weight.device, layer.weight.dtype))
        if norm_path is not None:
            norm: Any = self.placement.modules[norm_path]
            if self.plan.folding.updates_statistics and norm.momentum is None:
                raise IncompatibleError(
                    f"{norm_path} averages its statistics over all batches (momentum=None), "
                    f"which BN-folding strategy {self.plan.bn_folding} cannot update; use -1, 0 or 1"
                )
            if self.plan.folding.merges_at_once:
                quantized.merge(norm)
            else:
                quantized.fold(self.plan.folding, norm)
        if any(taken == path for taken in self._layers.values()):
            # one layer with two batch norms behind it: its folded weights differ, so must the quantizers
            alias = f"{path}__{len(self._layers)}"
            if norm_path is None or not self.plan.folding.merges_at_once:
                add_alias(self.root, alias, path, quantized)
            path = alias
        self.root.add_submodule(path, quantized)
        return path

    def _refuse_unmerged_checkpoints(self) -> None:
        """The weights have the names of the float network's, but not its values."""
        self.root.meta[MERGED] = tuple(norm for _, norm in self._layers if norm is not None)
        self.root.register_load_state_dict_pre_hook(_refuse_batch_norms)

    def _batch_norm_tensors(self, path: str) -> list[fx.Node | None]:
        norm: Any = self.placement.modules[path]
        names = ("weight", "bias", "running_mean", "running_var")
        return [
            None if getattr(norm, name) is None else self.graph.get_attr(f"{path}.{name}") for name in names
        ]
