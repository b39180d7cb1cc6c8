"""Strategy 3: fold with the running statistics, then rescale to the batch's (Krishnamoorthi, 2018).

o = conv(x, w) + b gives mu~ and sd~; with sd_r taken after the update and held constant, the output is
conv(x, Q(w g/sd_r)) sd_r/sd~ + beta + (b - mu~) g/sd~. The quantized weight is as steady as sd_r.
"""

import torch
from torch import Tensor

from mqbench.folding._base import BatchNormTensors, Folding, along_output, quantized_weight
from mqbench.fused.behind import left_by
from mqbench.fused.norm import Deferred, Rescaled, can_defer
from mqbench.layers import QuantizedLayer


class CorrectedStatistics(Folding):
    """Two convolutions; the batch's deviation corrects the output instead of the weight."""

    number = 3
    updates_statistics = True

    def train_forward(  # noqa: D102
        self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors
    ) -> Tensor | Deferred:
        mean, variance, count = layer.batch_statistics(layer.compute(x, layer.weight, layer.bias))
        bn.update(mean, variance, count)
        batch_deviation, running_deviation = torch.sqrt(variance + bn.eps), bn.deviation()
        output = layer.compute(x, quantized_weight(layer, bn.scaled(running_deviation)))
        shift = bn.shift(layer.bias, mean, bn.scaled(batch_deviation))
        correction = running_deviation / batch_deviation
        if torch.compiler.is_compiling() or not can_defer(output):
            return output * along_output(correction, output) + along_output(shift, output)
        return left_by(layer, Rescaled(output=output, factor=correction, shift=shift))


FOLDING = CorrectedStatistics()
