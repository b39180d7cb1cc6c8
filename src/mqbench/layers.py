"""Convolution and linear layers whose weight passes through a fake quantizer, with or without folded BN."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mqbench.data_layer import data_convolution
from mqbench.folding._base import BatchNormTensors, Folding, OutputStatistics, unfolded_output
from mqbench.folding._statistics import batch_statistics, joint_statistics
from mqbench.functional import broadcast, dequantize, made
from mqbench.fused.norm import Deferred
from mqbench.fused.recompute import Recipe, recomputed
from mqbench.processes import is_distributed
from mqbench.quantizer import FakeQuantize


class QuantizedLayer(nn.Module):
    """A layer y = op(x, Q(w)) + b, plus what a folding strategy makes of the batch norm behind it.

    The weight and bias are those of the float layer, under the same names. Where a batch norm is folded,
    the graph passes that module's tensors (gamma, beta, running mean, running variance) as arguments, so
    that they too stay where they were.

    Args:
        layer: the float layer; its parameters are taken over.
        weight_quantizer: the fake quantizer of the weight.

    Attributes:
        folding: the strategy, or None without a folded batch norm.
        defers: the only reader of the output is a quantizer, which can compute the batch norm as well.
        synchronize: where several processes train together, batch statistics are those of all of them
            (paper section 5.2); False is the paper's asynchronous "4*".
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    weight_quantizer: FakeQuantize

    def __init__(self, layer: nn.Module, weight_quantizer: FakeQuantize) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias  # type: ignore[assignment]
        self.weight_quantizer = weight_quantizer
        self._options = _options(layer)
        self._op = _OPERATIONS[type(layer)]
        self._description = layer.extra_repr()
        self.folding: Folding | None = None
        self.defers = False
        self.synchronize = True
        self.statistics: OutputStatistics | None = None
        self.eps = 0.0
        self.momentum: float = 0.0
        self.train(layer.training)

    def fold(self, folding: Folding, batch_norm: nn.Module) -> None:
        """From now on compute the layer by a folding strategy of the batch norm behind it."""
        self.folding = folding
        self.eps, self.momentum = batch_norm.eps, batch_norm.momentum  # type: ignore[assignment]

    @torch.no_grad()
    def merge(self, batch_norm: nn.Module) -> None:
        """Merge the running statistics and affine parameters of a batch norm into weight and bias (Eq. 4)."""
        norm: Any = batch_norm
        tensors = BatchNormTensors(
            norm.weight, norm.bias, norm.running_mean, norm.running_var, eps=norm.eps, momentum=0.0
        )
        weight, bias = tensors.folded(self.weight, self.bias)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def compute(self, x: Tensor | Recipe, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's operation with any weight and bias; of a recipe, what it makes is quantized here."""
        output = data_convolution(self._op, self._options, x, weight, bias)
        if output is not None:
            return output
        if isinstance(x, Recipe):
            x = made(x)
        with recomputed(x):
            return self._op(x, weight, bias, **self._options)

    def forward(self, x: Tensor, *batch_norm: Tensor | None) -> Tensor | Deferred:
        """The quantized layer; ``batch_norm`` is (gamma, beta, mean, variance) if one is folded."""
        if self.folding is None:
            return self.compute(x, self.weight_quantizer(self.weight), self.bias)
        tensors = self._tensors(batch_norm)
        if self.statistics is not None:  # calibration sees what strategy 4 would
            output = unfolded_output(self, x, tensors)
            return self.statistics.normalise(output, tensors)
        return self.folding.forward(self, x, tensors)

    def deployed_weight(self, *batch_norm: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The float weight whose integers are deployed, and the float bias beside it."""
        if self.folding is None:
            return self.weight, self.bias
        return self._tensors(batch_norm).folded(self.weight, self.bias)

    @property
    def is_synchronized(self) -> bool:
        """Batch statistics are those of all processes that train together."""
        return self.synchronize and is_distributed()

    def batch_statistics(self, output: Tensor) -> tuple[Tensor, Tensor, int]:
        """Mean, biased variance and count of an output, over all processes unless told otherwise."""
        return joint_statistics(output) if self.is_synchronized else batch_statistics(output)

    def _tensors(self, batch_norm: tuple[Tensor | None, ...]) -> BatchNormTensors:
        gamma, beta, mean, variance = batch_norm
        assert mean is not None
        assert variance is not None
        return BatchNormTensors(gamma, beta, mean, variance, eps=self.eps, momentum=self.momentum)

    def extra_repr(self) -> str:
        """The float layer's description and the folding strategy."""
        return self._description + (f", bn_folding={self.folding.number}" if self.folding else "")


def _options(layer: nn.Module) -> dict[str, Any]:
    names = ("stride", "padding", "dilation", "groups")
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


_OPERATIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
    nn.Linear: F.linear,
}
QUANTIZABLE = tuple(_OPERATIONS)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class DeployedLayer(nn.Module):
    """A converted layer: the weight is integers with a scale and zero point, the bias is float.

    Buffers: ``weight_integers`` (int8 up to 8 bits, else int32), ``weight_scale`` and
    ``weight_zero_point`` (0-d or ``[channels]``), ``bias`` (``[channels]``, or None).
    """

    weight_integers: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor | None

    def __init__(self, layer: QuantizedLayer, integers: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        quantizer = layer.weight_quantizer
        qparams = quantizer.qparams()
        small = quantizer.scheme.bits <= 8 and quantizer.scheme.signed
        self.scheme = quantizer.scheme
        self.channel_axis = quantizer.channel_axis
        self.register_buffer("weight_integers", integers.to(torch.int8) if small else integers)
        self.register_buffer("weight_scale", qparams.scale.detach().clone())
        self.register_buffer("weight_zero_point", qparams.zero_point.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self._op, self._options = layer._op, layer._options
        self._description = layer._description
        self.eval()

    @property
    def weight(self) -> Tensor:
        """The dequantized weight."""
        integers = self.weight_integers.to(torch.int32)
        scale = broadcast(self.weight_scale, integers, self.channel_axis)
        return dequantize(integers, scale, broadcast(self.weight_zero_point, integers, self.channel_axis))

    @property
    def function(self) -> str:
        """``conv1d``, ``conv2d``, ``conv3d`` or ``linear``."""
        return str(self._op.__name__)

    @property
    def options(self) -> dict[str, Any]:
        """Stride, padding, dilation and groups, as far as the function has them."""
        return dict(self._options)

    def forward(self, x: Tensor) -> Tensor:
        """The layer with its dequantized weight."""
        return self._op(x, self.weight, self.bias, **self._options)

    def extra_repr(self) -> str:
        """The float layer's description and the weight's grid."""
        return f"{self._description}, weight_bits={self.scheme.bits}"
