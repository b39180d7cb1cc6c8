"""Strategy 2: fold with the batch statistics of a first, float convolution (Jacob et al., 2018).

o = conv(x, w) + b gives mu~ and sd~; the output is conv(x, Q(w g/sd~)) + beta + (b - mu~) g/sd~.
Gradients flow through both convolutions.
"""

import torch
from torch import Tensor

from mqbench.folding._base import BatchNormTensors, Folding, quantized_weight
from mqbench.layers import QuantizedLayer


class BatchStatistics(Folding):
    """Two convolutions; the quantized weight changes with every batch."""

    number = 2
    updates_statistics = True

    def train_forward(self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors) -> Tensor:  # noqa: D102
        mean, variance, count = layer.batch_statistics(layer.compute(x, layer.weight, layer.bias))
        bn.update(mean, variance, count)
        factor = bn.scaled(torch.sqrt(variance + bn.eps))
        return layer.compute(x, quantized_weight(layer, factor), bn.shift(layer.bias, mean, factor))


FOLDING = BatchStatistics()
