"""Prepared network -> deployed simulation: batch norms merged, weights frozen as integers, ranges fixed."""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from mqbench import functional as F
from mqbench.absorption import release
from mqbench.attention import QuantizedAttention
from mqbench.errors import IncompatibleError, RequestError
from mqbench.layers import DeployedLayer, QuantizedLayer
from mqbench.observation import at_least_float
from mqbench.plan import Plan
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QuantScheme


class DeployedQuantizer(nn.Module):
    """Eq. 1 with a fixed scale, zero point and integer range: what an engine computes.

    The integer range is that of the trained quantizer, which may be narrower than the grid (PACT's
    symmetric clipping ends one integer above quant_min).
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, quantizer: FakeQuantize) -> None:
        super().__init__()
        qparams = quantizer.qparams()
        self.scheme: QuantScheme = quantizer.scheme
        self.quant_min, self.quant_max = quantizer.integer_range()
        self.register_buffer("scale", qparams.scale.detach().clone())
        self.register_buffer("zero_point", qparams.zero_point.detach().clone())
        self.eval()

    def quantize(self, x: Tensor) -> Tensor:
        """Integers of ``x``, int32."""
        return F.quantize(at_least_float(x), self.scale, self.zero_point, self.quant_min, self.quant_max)

    def forward(self, x: Tensor) -> Tensor:
        """Quantize and dequantize."""
        zero_point = None if self.scheme.symmetric else self.zero_point
        y = F.fake_quantize(at_least_float(x), self.scale, zero_point, self.quant_min, self.quant_max)
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        """The integer range."""
        return f"{self.scheme.bits} bits, [{self.quant_min}, {self.quant_max}]"


@torch.no_grad()
def convert(model: fx.GraphModule) -> fx.GraphModule:
    """Freeze a prepared network into the network that is deployed; ``model`` is not changed.

    Folded batch norms are merged (with strategy -1 they stay, in float), each weight is stored as its
    integers with scale and zero point, each activation quantizer keeps its scale, zero point and integer
    range. The output equals that of ``model.eval()`` up to float rounding.

    Args:
        model: from `prepare`, calibrated.

    Raises:
        RequestError: not a prepared network.
        IncompatibleError: an algorithm whose levels are not integers with a scale.
        CalibrationError: a quantizer without parameters.
    """
    plan = model.meta.get("plan") if isinstance(model, fx.GraphModule) else None
    if not isinstance(plan, Plan):
        raise RequestError(f"convert takes a network from mqbench.prepare, got {type(model).__name__}")
    if not plan.method.deployable:
        raise IncompatibleError(
            f"{plan.algorithm!r} cannot be deployed: its levels are not integers with one scale (Eq. 1)"
        )
    deployed = copy.deepcopy(model).eval()
    release(deployed)
    modules = dict(deployed.named_modules(remove_duplicate=False))
    made: dict[str, nn.Module] = {}
    for node in list(deployed.graph.nodes):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, QuantizedAttention):
            for path, quantizer in module.write_out(deployed.graph, node).items():
                made[path] = DeployedQuantizer(quantizer)
        elif isinstance(module, QuantizedLayer):
            tensors = [_value(deployed, argument) for argument in node.args[1:]]
            node.args = node.args[:1]
            made.setdefault(str(node.target), _deploy(module, tensors))
        elif isinstance(module, FakeQuantize):
            made.setdefault(str(node.target), DeployedQuantizer(module))
    for path, module in made.items():
        deployed.set_submodule(path, module)
    deployed.graph.eliminate_dead_code()
    deployed.delete_all_unused_submodules()
    deployed.graph.lint()
    deployed.recompile()
    deployed.requires_grad_(False)
    return deployed.eval()


def _deploy(layer: QuantizedLayer, tensors: list[Any]) -> DeployedLayer:
    weight, bias = layer.deployed_weight(*tensors)
    return DeployedLayer(layer, layer.weight_quantizer.quantize(weight), bias)


def _value(model: fx.GraphModule, node: Any) -> Any:
    if node is None:
        return None
    path, _, leaf = str(node.target).rpartition(".")
    return getattr(model.get_submodule(path), leaf)
