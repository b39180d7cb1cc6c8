"""The captured float network in the forms that other toolkits take: modules, batch norms folded, an ONNX file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from mqbench.capture import capture
from mqbench.deploy import onnx_file
from mqbench.deploy.lowering import lower

_ATEN: Any = torch.ops.aten
_FUSE: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Conv1d: fuse_conv_bn_eval,
    nn.Conv2d: fuse_conv_bn_eval,
    nn.Conv3d: fuse_conv_bn_eval,
    nn.Linear: fuse_linear_bn_eval,
}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def float_file(model: nn.Module, example: Tensor, path: Path) -> str:
    """Write the model as an ONNX file of float operations; the name of its input."""
    program = lower(capture(model, example))
    onnx_file.write(program, path)
    return program.inputs[0]


def plain_network(model: nn.Module, example: Tensor, *, fold: bool = False) -> fx.GraphModule:
    """The model with a module for each layer and activation function, and torch's own functions for sums.

    Toolkits find fusions (convolution, sum, ReLU) by modules and functions, and some stop at a module that is
    called twice, as in a residual block that has one ReLU. Names of layers are the model's.

    Args:
        model: float; it is not changed.
        example: two images.
        fold: merge batch norms into the layers before them.
    """
    network = capture(model, example)
    if fold:
        _fold(network)
    for node in network.graph.nodes:
        if node.op == "call_function":
            _as_module(network, node)
    for node in network.graph.nodes:
        node.meta = {}  # where the model's calls were would be found again in a second export
    network.graph.lint()
    network.recompile()
    return network


def _as_module(network: fx.GraphModule, node: fx.Node) -> None:
    module: nn.Module | None = None
    if node.target == _ATEN.relu.default:
        module = nn.ReLU()
    elif node.target == _ATEN.hardtanh.default:
        low, high = node.args[1:] or (-1.0, 1.0)
        module = nn.ReLU6() if (low, high) == (0.0, 6.0) else nn.Hardtanh(low, high)  # type: ignore[arg-type]
    elif node.target == _ATEN.relu6.default:
        module = nn.ReLU6()
    elif node.target == _ATEN.add.Tensor and len(node.all_input_nodes) == 2 and not node.kwargs:
        node.target = torch.add
    if module is not None:
        name = f"function_{node.name}"
        network.add_submodule(name, module)
        node.op, node.target, node.args = "call_module", name, node.args[:1]


def _fold(network: fx.GraphModule) -> None:
    modules = dict(network.named_modules())
    calls: dict[Any, int] = {}
    for node in network.graph.nodes:
        calls[node.target] = calls.get(node.target, 0) + 1
    for node in list(network.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, _NORMS):
            continue
        source = node.args[0]
        layer = modules.get(str(source.target)) if source.op == "call_module" else None
        fuse = _FUSE.get(type(layer)) if layer is not None else None
        if fuse is None or len(source.users) > 1 or calls[source.target] > 1:
            continue  # a norm that follows no layer of its own stays
        network.set_submodule(str(source.target), fuse(layer, norm))
        node.replace_all_uses_with(source)
        network.graph.erase_node(node)
    network.delete_all_unused_submodules()
