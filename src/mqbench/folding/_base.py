"""What a folding strategy is, and the batch-norm arithmetic that the strategies share (SPEC section 9)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor

from mqbench import folding as catalog
from mqbench.errors import CalibrationError, RequestError
from mqbench.folding._factor import guarded_factor
from mqbench.folding._statistics import batch_statistics
from mqbench.fused import opaque
from mqbench.fused.loop import takes
from mqbench.fused.norm import Deferred

if TYPE_CHECKING:
    from mqbench.layers import QuantizedLayer


@torch.library.custom_op("mqbench::snapshot", mutates_args=())
def _snapshot(running: Tensor) -> Tensor:
    """A copy that a compiler cannot see through: strategy 4 needs the variance from before the update."""
    return running.clone()


@_snapshot.register_fake
def _(running: Tensor) -> Tensor:
    return torch.empty_like(running)


def along_weight(v: Tensor, weight: Tensor) -> Tensor:
    """A ``[channels]`` vector shaped to multiply a weight, whose axis 0 is the output channel."""
    return v.reshape([-1] + [1] * (weight.dim() - 1))


def along_output(v: Tensor, output: Tensor) -> Tensor:
    """A ``[channels]`` vector shaped to multiply an output, whose axis 1 is the channel."""
    return v.reshape([1, -1] + [1] * (output.dim() - 2))


@dataclass(frozen=True)
class BatchNormTensors:
    """The tensors of one batch norm, all ``[channels]``; gamma and beta are None if it is not affine."""

    gamma: Tensor | None
    beta: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float
    momentum: float

    def normalise(self, output: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """The batch norm of ``output`` with the given statistics."""
        factor = self.scaled(torch.sqrt(variance + self.eps))
        shift = self.shift(None, mean, factor)
        return torch.addcmul(along_output(shift, output), output, along_output(factor, output))

    def deviation(self) -> Tensor:
        """Running standard deviation sqrt(variance + eps), constant."""
        return torch.sqrt(self.variance.detach() + self.eps)

    def scaled(self, deviation: Tensor) -> Tensor:
        """gamma / deviation."""
        return 1 / deviation if self.gamma is None else self.gamma / deviation

    def shift(self, bias: Tensor | None, mean: Tensor, factor: Tensor) -> Tensor:
        """The folded bias beta + (b - mean) factor."""
        centred = -mean if bias is None else bias - mean
        shift = centred * factor
        return shift if self.beta is None else self.beta + shift

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weight and bias of Eq. 4, with the running statistics."""
        factor = self.scaled(self.deviation())
        return weight * along_weight(factor, weight), self.shift(bias, self.mean, factor)

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards a batch's (``variance`` biased, ``count`` elements a channel)."""
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


def quantized_weight(layer: "QuantizedLayer", factor: Tensor) -> Tensor:
    """Q(w f) for the factor f ``[channels]`` of a folded batch norm; one pass over the weight where there can be."""
    quantizer, weight = layer.weight_quantizer, layer.weight
    watched = quantizer._forward_hooks or quantizer._forward_pre_hooks  # who looks in wants to see w f
    if watched or not (takes(weight) or opaque.sees(weight)):
        return quantizer(weight * along_weight(factor, weight))
    return quantizer(weight, gain=factor)


def scaled_output(layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> tuple[Tensor, Tensor]:
    """conv(x, Q(w f)) and f = g/sd_r of strategy 4."""
    if torch.compiler.is_compiling():  # the update in place must not reach the backward pass
        bn = replace(bn, variance=torch.ops.mqbench.snapshot(bn.variance))
    factor = 1 / bn.deviation() if bn.gamma is None else guarded_factor(bn.gamma, bn.variance, bn.eps)
    return layer.compute(x, quantized_weight(layer, factor)), factor


def unfolded_output(layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> Tensor:
    """What strategy 4 normalises: o = conv(x, Q(w f))/f + b with f = g/sd_r."""
    output, factor = scaled_output(layer, x, bn)
    output = output / along_output(factor, output)
    return output if layer.bias is None else output + along_output(layer.bias, output)


class OutputStatistics(Protocol):
    """What looks at a folded layer's output before the batch norm, in place of the strategy."""

    def normalise(self, output: Tensor, bn: BatchNormTensors) -> Tensor:
        """Take in one batch of pre-BN outputs, and give their batch norm."""


class StatisticsAverage:
    """Batch-size-weighted averages of per-batch means and biased variances (SPEC section 8)."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: tuple[Tensor, Tensor] | None = None
        self._running: tuple[Tensor, Tensor] | None = None

    def normalise(self, output: Tensor, bn: BatchNormTensors) -> Tensor:
        """Take in one batch of pre-BN outputs, and normalise it with its own statistics."""
        if output.shape[0] == 0:
            raise CalibrationError("an empty batch has no statistics")
        mean, variance, _ = batch_statistics(output)
        size = output.shape[0]
        sums = mean.double() * size, variance.double() * size
        self._sums = sums if self._sums is None else (self._sums[0] + sums[0], self._sums[1] + sums[1])
        self._running = bn.mean, bn.variance
        self.count += size
        return bn.normalise(output, mean, variance)

    def check(self) -> None:
        """Raise `CalibrationError` if the data was not finite."""
        if self._sums is not None and not all(bool(total.isfinite().all()) for total in self._sums):
            raise CalibrationError("batch-norm statistics must be finite, got NaN or infinity in the data")

    @torch.no_grad()
    def store(self) -> None:
        """Write the averages to the running statistics."""
        if self._sums is not None and self._running is not None:
            for running, total in zip(self._running, self._sums, strict=True):
                running.copy_(total / self.count)


class Folding(ABC):
    """How a layer and the batch norm behind it are computed; stateless.

    Attributes:
        number: the paper's number of the strategy, -1 to 4.
        merges_at_once: weight and bias are merged when the network is prepared and the BN is deleted.
        updates_statistics: training moves running statistics.
    """

    number: ClassVar[int]
    merges_at_once: ClassVar[bool] = False
    updates_statistics: ClassVar[bool] = False

    def forward(self, layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> Tensor | Deferred:
        """Output of the layer and its batch norm, which may be left to the quantizer behind (``layer.defers``)."""
        if layer.training:
            return self.train_forward(layer, x, bn)
        return self.folded_forward(layer, x, bn)

    @abstractmethod
    def train_forward(self, layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> Tensor | Deferred:
        """The same while training."""

    def folded_forward(self, layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> Tensor:
        """conv(x, Q(w g/sd_r)) + beta + (b - mu_r) g/sd_r: what is deployed."""
        factor = bn.scaled(bn.deviation())
        return layer.compute(x, quantized_weight(layer, factor), bn.shift(layer.bias, bn.mean, factor))


def by_number(number: int) -> Folding:
    """The strategy with the paper's number.

    Raises:
        RequestError: no strategy has this number.
    """
    strategies: dict[int, Folding] = {}
    for name in catalog:  # type: ignore[attr-defined]
        strategy: Folding = catalog[name]  # type: ignore[index]
        strategies[strategy.number] = strategy
    if number not in strategies:
        allowed = ", ".join(map(str, sorted(strategies)))
        raise RequestError(f"unknown BN-folding strategy {number!r}; allowed: {allowed}")
    return strategies[number]
