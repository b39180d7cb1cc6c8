"""Strategy 4: quantize the folded weight, undo the folding, and normalise by a real batch norm.

With f = g/sd_r (before the update, constant), o = conv(x, Q(w f))/f + b and the output is BN(o). One
convolution, and the statistics are those of the quantized weight. All five hardware settings use it.
"""

import torch
from torch import Tensor

from mqbench.folding._base import BatchNormTensors, Folding, along_output, along_weight
from mqbench.layers import QuantizedLayer

GUARD = 1e-12


class ExplicitNorm(Folding):
    """The batch norm stays a module, so that SyncBN conversion works on it as on any other."""

    number = 4
    keeps_batch_norm = True
    updates_statistics = True

    def train_forward(self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors) -> Tensor:  # noqa: D102
        factor = bn.scaled(bn.deviation())
        if bn.gamma is not None:  # a dead channel must not divide by zero
            safe = torch.copysign(torch.full_like(bn.gamma, GUARD), bn.gamma) / bn.deviation()
            factor = torch.where(bn.gamma.abs() < GUARD, safe, factor)
        weight = layer.weight_quantizer(layer.weight * along_weight(factor, layer.weight))
        output = layer.compute(x, weight)
        output = output / along_output(factor, output)
        return output if layer.bias is None else output + along_output(layer.bias, output)

    folded_forward = train_forward


FOLDING = ExplicitNorm()
