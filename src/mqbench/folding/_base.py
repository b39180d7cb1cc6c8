"""What a folding strategy is, and the batch-norm arithmetic that the strategies share (SPEC section 9)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from mqbench import folding as catalog
from mqbench.errors import RequestError

if TYPE_CHECKING:
    from mqbench.layers import QuantizedLayer


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


def batch_statistics(output: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean, biased variance (``[channels]``) and number of elements a channel of a layer's output."""
    axes = [axis for axis in range(output.dim()) if axis != 1]
    variance, mean = torch.var_mean(output, axes, correction=0)
    return mean, variance, output.numel() // output.shape[1]


def combine_statistics(
    means: Sequence[Tensor], variances: Sequence[Tensor], counts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the union of batches, from those of each (synchronised BN, section 9).

    mean = sum n_i m_i / n and var = sum n_i (v_i + (m_i - mean)^2) / n, differentiable.
    """
    weights = torch.tensor(counts, dtype=means[0].dtype, device=means[0].device)
    weights = (weights / weights.sum()).reshape(-1, *[1] * means[0].dim())
    mean = (torch.stack(list(means)) * weights).sum(0)
    return mean, ((torch.stack(list(variances)) + (torch.stack(list(means)) - mean) ** 2) * weights).sum(0)


class StatisticsAverage:
    """Batch-size-weighted averages of per-batch means and biased variances (SPEC section 8)."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: tuple[Tensor, Tensor] | None = None
        self._running: tuple[Tensor, Tensor] | None = None

    def normalise(self, output: Tensor, bn: BatchNormTensors) -> Tensor:
        """Take in one batch of pre-BN outputs, and normalise it with its own statistics."""
        mean, variance, _ = batch_statistics(output)
        size = output.shape[0]
        sums = mean.double() * size, variance.double() * size
        self._sums = sums if self._sums is None else (self._sums[0] + sums[0], self._sums[1] + sums[1])
        self._running = bn.mean, bn.variance
        self.count += size
        return bn.normalise(output, mean, variance)

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
        keeps_batch_norm: the batch norm stays a module of the graph, behind the layer.
        merges_at_once: weight and bias are merged when the network is prepared and the BN is deleted.
        has_statistics: training moves running statistics.
    """

    number: ClassVar[int]
    keeps_batch_norm: ClassVar[bool] = False
    merges_at_once: ClassVar[bool] = False
    updates_statistics: ClassVar[bool] = False

    def forward(self, layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> Tensor:
        """Output of the layer (and of the batch norm, unless that stays a module of its own)."""
        if layer.training:
            return self.train_forward(layer, x, bn)
        return self.folded_forward(layer, x, bn)

    @abstractmethod
    def train_forward(self, layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> Tensor:
        """The same while training."""

    def folded_forward(self, layer: "QuantizedLayer", x: Tensor, bn: BatchNormTensors) -> Tensor:
        """conv(x, Q(w g/sd_r)) + beta + (b - mu_r) g/sd_r: what is deployed."""
        weight, bias = bn.folded(layer.weight, layer.bias)
        return layer.compute(x, layer.weight_quantizer(weight), bias)


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
