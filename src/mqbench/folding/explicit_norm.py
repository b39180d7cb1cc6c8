"""Strategy 4: quantize the folded weight, undo the folding, and normalise by a real batch norm.

With f = g/sd_r (before the update, constant), o = conv(x, Q(w f))/f + b and the output is BN(o). One
convolution, and the statistics are those of the quantized weight. All five hardware settings use it.
"""

from torch import Tensor
from torch.nn import functional as F

from mqbench.folding._base import BatchNormTensors, Folding, unfolded_output
from mqbench.layers import QuantizedLayer


class ExplicitNorm(Folding):
    """In eval mode the folded layer is computed directly, so that it is the converted one to the bit."""

    number = 4
    updates_statistics = True

    def train_forward(self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors) -> Tensor:  # noqa: D102
        output = unfolded_output(layer, x, bn)
        if layer.is_synchronized:
            mean, variance, count = layer.batch_statistics(output)
            bn.update(mean, variance, count)
            return bn.normalise(output, mean, variance)
        return F.batch_norm(output, bn.mean, bn.variance, bn.gamma, bn.beta, True, bn.momentum, bn.eps)


FOLDING = ExplicitNorm()
