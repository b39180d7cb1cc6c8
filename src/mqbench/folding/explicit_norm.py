"""Strategy 4: quantize the folded weight, undo the folding, and normalise by a real batch norm.

With f = g/sd_r (before the update, constant), o = conv(x, Q(w f))/f + b and the output is BN(o). One
convolution, and the statistics are those of the quantized weight. All five hardware settings use it.
"""

from torch import Tensor
from torch.nn import functional as F

from mqbench.folding._base import BatchNormTensors, Folding, along_output, scaled_output
from mqbench.fused.behind import left_by
from mqbench.fused.norm import Deferred, DeferredNorm, can_defer
from mqbench.layers import QuantizedLayer


class ExplicitNorm(Folding):
    """In eval mode the folded layer is computed directly, so that it is the converted one to the bit."""

    number = 4
    updates_statistics = True

    def train_forward(  # noqa: D102
        self, layer: QuantizedLayer, x: Tensor, bn: BatchNormTensors
    ) -> Tensor | Deferred:
        scaled, factor = scaled_output(layer, x, bn)
        if can_defer(scaled) and not layer.is_synchronized and bn.gamma is not None and bn.beta is not None:
            norm = DeferredNorm(
                output=scaled,
                gamma=bn.gamma,
                beta=bn.beta,
                running_mean=bn.mean,
                running_var=bn.variance,
                momentum=bn.momentum,
                eps=bn.eps,
                divisor=factor,
                bias=layer.bias,
            )
            return left_by(layer, norm)
        output = scaled / along_output(factor, scaled)
        if layer.bias is not None:
            output = output + along_output(layer.bias, output)
        if layer.is_synchronized:
            mean, variance, count = layer.batch_statistics(output)
            bn.update(mean, variance, count)
            return bn.normalise(output, mean, variance)
        return F.batch_norm(output, bn.mean, bn.variance, bn.gamma, bn.beta, True, bn.momentum, bn.eps)


FOLDING = ExplicitNorm()
