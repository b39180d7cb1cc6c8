"""Brevitas: each layer becomes a quantized one with a quantizer for its input (graph 1), trained with learned scales.

Weights are its ``Int8WeightPerTensorFloat`` and ``PerChannel`` (ranges of equal ends), inputs ``Int8Act``, ``Uint8Act``
where no value is negative and the backend turns unsigned there, or ``ShiftedUint8Act`` with a zero point; scales of
inputs start from a high percentile. For "lsq" the scales of weights are parameters as those of inputs are.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mqbench.placement import Placement
from mqbench.tools._base import Job, Tool
from mqbench.tools._network import plain_network

LEARNED = "lsq"
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


def quantize(job: Job) -> nn.Module:
    """The network with quantized layers, calibrated."""
    from brevitas.graph.calibrate import calibration_mode

    network = plain_network(job.network, job.example, fold=job.plan.bn_folding >= 0).eval()
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, _LAYERS)]
    least = _least_inputs(network, job.images)
    special = {str(node.target) for node in Placement(network, graph=1).first_and_last}
    for name, layer in layers:
        network.set_submodule(name, _quantized(job, layer, least[name] < 0, name in special))
    network.eval()
    with torch.no_grad(), calibration_mode(network):
        for x in job.images:
            network(x)
    return network


def _quantized(job: Job, layer: Any, negative: bool, special: bool) -> nn.Module:
    import brevitas.nn as qnn
    from brevitas.quant import scaled_int, shifted_scaled_int

    weight, data = job.plan.scheme("weight", special), job.plan.scheme("activation", special)
    weights = (
        scaled_int.Int8WeightPerChannelFloat if weight.per_channel else scaled_int.Int8WeightPerTensorFloat
    )
    inputs: Any = shifted_scaled_int.ShiftedUint8ActPerTensorFloat
    if data.symmetric:
        unsigned = job.plan.library.adaptive_sign and not negative
        inputs = scaled_int.Uint8ActPerTensorFloat if unsigned else scaled_int.Int8ActPerTensorFloat
    options = {
        "bias": layer.bias is not None,
        "weight_quant": weights,
        "weight_bit_width": weight.bits,
        "input_quant": inputs,
        "input_bit_width": data.bits,
    }
    if job.plan.algorithm == LEARNED:
        options["weight_scaling_impl_type"] = "parameter_from_stats"
    if isinstance(layer, nn.Linear):
        made = qnn.QuantLinear(layer.in_features, layer.out_features, **options)
    else:
        kind = qnn.QuantConv1d if isinstance(layer, nn.Conv1d) else qnn.QuantConv2d
        shape = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
        made = kind(layer.in_channels, layer.out_channels, layer.kernel_size, **shape, **options)
    with torch.no_grad():
        made.weight.copy_(layer.weight)
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
    for module in made.modules():  # scales that are taken from the weight are taken from this one
        if hasattr(module, "init_tensor_quant"):
            module.init_tensor_quant()
    return made


@torch.no_grad()
def _least_inputs(network: nn.Module, images: list[Tensor]) -> dict[str, float]:
    """The smallest value that enters each layer."""
    least: dict[str, float] = {}

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            least[name] = min(least.get(name, 0.0), float(inputs[0].min()))

        return hook

    handles = [
        layer.register_forward_pre_hook(watch(name))
        for name, layer in network.named_modules()
        if isinstance(layer, _LAYERS)
    ]
    for x in images:
        network(x)
    for handle in handles:
        handle.remove()
    return least


TOOL = Tool(
    package="brevitas",
    distribution="brevitas",
    extra="brevitas",
    quantize=quantize,
    algorithms={
        "ptq": "ranges of the weights, and percentiles of the calibration images, frozen",
        LEARNED: "scales are parameters, by the straight-through estimator; without LSQ's factor on their gradients",
    },
    weight_bits=tuple(range(2, 9)),
    activation_bits=tuple(range(2, 9)),
    symmetric_weights=(True,),
    graphs=(1,),
    first_last=True,
    folded=(False, True),
    trains=True,
    activation_calibration=(),
)
