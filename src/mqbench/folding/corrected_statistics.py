"""Strategy 3: fold with the running statistics, then rescale to the batch's (Krishnamoorthi, 2018).

o = conv(x, w) + b gives mu~ and sd~; with sd_r taken after the update and held constant, the output is
conv(x, Q(w g/sd_r)) sd_r/sd~ + beta + (b - mu~) g/sd~. The quantized weight is as steady as sd_r.
"""

from typing import Any

import torch
from torch import Tensor

from mqbench.folding._base import BatchNormTensors, Folding, quantized_weight
from mqbench.functional import apply, incoming
from mqbench.fused.elementwise import Elementwise
from mqbench.layers import QuantizedLayer


def _rescaled(x: Any, correction: Any, shift: Any) -> Any:
    return x * correction + shift


def _gradients(gradient: Any, x: Any, correction: Any, shift: Any) -> Any:
    return gradient * correction, gradient * x, gradient


RESCALED = Elementwise(_rescaled, _gradients, parameters=2, scalars=0, gradients=2)


class CorrectedStatistics(Folding):
    """Two convolutions; the batch's deviation corrects the output instead of the weight."""

    number = 3
    updates_statistics = True

    def train_forward(self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors) -> Tensor:  # noqa: D102
        mean, variance, count = layer.batch_statistics(layer.compute(x, layer.weight, layer.bias))
        bn.update(mean, variance, count)
        batch_deviation, running_deviation = torch.sqrt(variance + bn.eps), bn.deviation()
        output = layer.compute(x, quantized_weight(layer, bn.scaled(running_deviation)))
        shift = bn.shift(layer.bias, mean, bn.scaled(batch_deviation))
        correction = running_deviation / batch_deviation
        return apply(RESCALED, incoming(output), (correction, shift), (), axis=1)


FOLDING = CorrectedStatistics()
