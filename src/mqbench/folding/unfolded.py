"""Strategy -1: no folding; the batch norm stays behind the layer, BN(conv(x, Q(w)) + b)."""

from torch import Tensor

from mqbench.folding._base import BatchNormTensors, Folding
from mqbench.layers import QuantizedLayer


class Unfolded(Folding):
    """Normal training; deployed with a float batch norm."""

    number = -1

    def train_forward(self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors) -> Tensor:  # noqa: D102
        return layer.compute(x, layer.weight_quantizer(layer.weight), layer.bias)

    folded_forward = train_forward


FOLDING = Unfolded()
