"""What single nodes of a captured graph mean to the lowering: clips, zero padding, pooling, float calls."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from mqbench.deploy._arguments import argument, each
from mqbench.deploy.program import Combination, GlobalPool, Pads, Pool
from mqbench.errors import RequestError
from mqbench.layers import BATCH_NORMS, DeployedLayer
from mqbench.operations import MOVES

aten = torch.ops.aten
INFINITY = float("inf")


def name_of(node: fx.Node) -> str:
    """``hardtanh`` of ``aten.hardtanh.default``."""
    return str(node.target).split(".")[1] if str(node.target).startswith("aten.") else ""


def clip_bounds(node: fx.Node) -> tuple[float, float] | None:
    """Real bounds of an elementwise clip (ReLU, ReLU6, clamp), None for anything else."""
    name = name_of(node)
    if name == "relu":
        return 0.0, INFINITY
    if name == "relu6":
        return 0.0, 6.0
    edges: tuple[Any, Any]
    if name == "hardtanh":
        edges = argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
    elif name == "clamp":
        edges = argument(node, 1, "min"), argument(node, 2, "max")
    elif name == "clamp_min":
        edges = argument(node, 1, "min"), None
    elif name == "clamp_max":
        edges = None, argument(node, 1, "max")
    else:
        return None
    if any(isinstance(edge, fx.Node) for edge in edges):
        return None
    low, high = edges
    return (-INFINITY if low is None else float(low)), (INFINITY if high is None else float(high))


def pads_zero(node: fx.Node) -> bool:
    """False for padding with something else than real zero."""
    if name_of(node) not in ("pad", "constant_pad_nd"):
        return True
    mode, value = ("constant", argument(node, 2, "value", 0)) if name_of(node) == "constant_pad_nd" else (
        argument(node, 2, "mode", "constant"), argument(node, 3, "value", None))  # fmt: skip
    return mode == "constant" and not value and all(isinstance(n, int) and n >= 0 for n in node.args[1])  # type: ignore[union-attr]


def spatial_zero_pad(node: fx.Node) -> Pads | None:
    """(before, after) of each spatial axis if the node pads these with zero and nothing else."""
    if name_of(node) not in ("pad", "constant_pad_nd") or not pads_zero(node):
        return None
    flat: Any = node.args[1]
    spatial = node.meta["val"].dim() - 2
    pairs = [(int(a), int(b)) for a, b in zip(flat[::2], flat[1::2], strict=True)]  # last axis first
    if spatial < 1 or any(pair != (0, 0) for pair in pairs[spatial:]):
        return None
    pairs = [*pairs[:spatial], *[(0, 0)] * (spatial - len(pairs))]
    return tuple(reversed(pairs))


def hoist_quantizers(graph: fx.Graph, is_quantizer: Callable[[fx.Node], bool]) -> None:
    """Move each quantizer in front of the moves that only it reads: both orders give the same integers."""
    for node in list(graph.nodes):
        if not is_quantizer(node):
            continue
        source = node.all_input_nodes[0]
        while source.target in MOVES and len(source.users) == 1 and pads_zero(source):
            before = source.all_input_nodes[0]
            if name_of(source).startswith(("split", "chunk", "unbind")) or len(source.all_input_nodes) != 1:
                break
            node.replace_all_uses_with(source)
            node.args = (before,)
            source.replace_input_with(before, node)
            source.prepend(node)
            node.meta["val"] = before.meta.get("val")
            source = before


def is_split(node: fx.Node) -> bool:
    """Gives several tensors, picked apart by ``getitem``."""
    return name_of(node) in ("split", "split_with_sizes", "chunk", "unbind")


def pick(node: fx.Node) -> tuple[Any, tuple[Any, ...]]:
    """One part of a split as a slice of what was split."""
    split, index = node.args[:2]
    if not isinstance(split, fx.Node) or not is_split(split) or not isinstance(index, int):
        raise RequestError(f"{node.name} picks from {split}, which cannot be lowered")
    source = split.args[0]
    axis: Any = argument(split, 2, "dim", 0) if name_of(split) != "unbind" else argument(split, 1, "dim", 0)
    if name_of(split) == "unbind":
        return aten.select.int, (source, axis, index)
    parts: Any = split.meta["val"]
    sizes = [int(part.shape[axis]) for part in parts]
    start = sum(sizes[:index])
    return aten.slice.Tensor, (source, axis, start, start + sizes[index])


def pool(node: fx.Node) -> Callable[..., Combination] | None:
    """What makes the integer form of an average pool; None if it has none."""
    value: Any = node.all_input_nodes[0].meta["val"]
    spatial = list(range(2, value.dim()))
    name = name_of(node)
    if name == "mean" and len(node.args) > 1:
        dims: Any = node.args[1]
        if node.kwargs.get("dtype") is None and sorted(d % value.dim() for d in dims) == spatial:
            return partial(GlobalPool, keepdims=bool(argument(node, 2, "keepdim", False)))
    if name.startswith("adaptive_avg_pool"):
        size = each(node.args[1], len(spatial))
        if all(n == 1 for n in size):
            return GlobalPool
        windows = even_windows([int(value.shape[axis]) for axis in spatial], size)
        return (
            None
            if windows is None
            else partial(Pool, kernel=windows, stride=windows, padding=(0,) * len(spatial))
        )
    if name.startswith("avg_pool"):
        kernel = each(node.args[1], len(spatial))
        return partial(
            Pool,
            kernel=kernel,
            stride=each(argument(node, 2, "stride") or kernel, len(spatial)),
            padding=each(argument(node, 3, "padding", 0), len(spatial)),
            ceil_mode=bool(argument(node, 4, "ceil_mode", False)),
            count_include_pad=bool(argument(node, 5, "count_include_pad", True)),
        )
    return None


def even_windows(sizes: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...] | None:
    """The windows of an adaptive pool that cuts each axis into equal parts; None if its windows overlap."""
    if any(size % n for size, n in zip(sizes, wanted, strict=True)):
        return None
    return tuple(size // n for size, n in zip(sizes, wanted, strict=True))


def layer_options(
    function: str, options: dict[str, Any], kernel: tuple[int, ...], extra: Pads
) -> dict[str, Any]:
    """Stride, padding, dilation and groups of a layer, one entry a spatial axis."""
    if function == "linear":
        return {}
    spatial = len(kernel)
    dilation, padding = each(options["dilation"], spatial), options["padding"]
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = tuple((total // 2, total - total // 2) for total in totals)
    else:
        pads = tuple((n, n) for n in each(0 if padding == "valid" else padding, spatial))
    if extra:
        pads = tuple((a + c, b + d) for (a, b), (c, d) in zip(pads, extra, strict=True))
    stride = each(options["stride"], spatial)
    return {"stride": stride, "padding": pads, "dilation": dilation, "groups": options["groups"]}


def float_layer(
    function: str, weight: Tensor, layer: DeployedLayer, source: Any
) -> tuple[str, tuple[Any, ...]]:
    """A quantized weight on a float input: the aten call with the dequantized weight."""
    bias = None if layer.bias is None else layer.bias
    return _layer_call(function, source, weight, bias, layer.options)


def float_call(module: nn.Module, source: Any) -> tuple[str, tuple[Any, ...]]:
    """A float layer or batch norm as an aten call on its stored tensors."""
    layer: Any = module
    if isinstance(module, BATCH_NORMS):
        tensors = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        if layer.running_mean is None:
            raise RequestError("a batch norm without running statistics cannot be lowered")
        return "aten.batch_norm.default", (source, *tensors, False, 0.0, layer.eps, False)
    function = "linear" if isinstance(module, nn.Linear) else f"conv{layer.weight.dim() - 2}d"
    names = ("stride", "padding", "dilation", "groups")
    options = {name: getattr(layer, name) for name in names if hasattr(layer, name)}
    return _layer_call(function, source, layer.weight, layer.bias, options)


def _layer_call(
    function: str, source: Any, weight: Tensor, bias: Tensor | None, options: dict[str, Any]
) -> tuple[str, tuple[Any, ...]]:
    if function == "linear":
        return "aten.linear.default", (source, weight, bias)
    spatial = weight.dim() - 2
    padding = options["padding"]
    overload = "padding" if isinstance(padding, str) else "default"
    return f"aten.{function}.{overload}", (
        source,
        weight,
        bias,
        each(options["stride"], spatial),
        padding if isinstance(padding, str) else each(padding, spatial),
        each(options["dilation"], spatial),
        options["groups"],
    )
