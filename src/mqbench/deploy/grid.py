"""What integers stand for: the grid of an activation, and a weight as it is deployed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.scheme import QuantScheme


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The integers of one activation tensor: real value = (integer - zero_point) scale.

    Args:
        scale: a float32 value.
        zero_point: within [quant_min, quant_max].
        quant_min, quant_max: smallest and largest integer, which may lie inside the scheme's range.
        scheme: bits, signedness and symmetry.
    """

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int
    scheme: QuantScheme

    def quantize(self, x: Tensor) -> Tensor:
        """Integers of ``x`` (Eq. 1), int32."""
        scale, zero_point = torch.tensor(self.scale, dtype=torch.float32), torch.tensor(self.zero_point)
        return F.quantize(
            x.float(), scale.to(x.device), zero_point.to(x.device), self.quant_min, self.quant_max
        )

    def dequantize(self, q: Tensor) -> Tensor:
        """Real values of integers, float32."""
        return (q - self.zero_point).to(torch.float32) * torch.tensor(self.scale, dtype=torch.float32)

    def integer(self, value: float) -> int:
        """The integer of one real number; infinities give the ends of the range."""
        if value in (float("inf"), float("-inf")):
            return self.quant_max if value > 0 else self.quant_min
        return int(self.quantize(torch.tensor(value)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Weight:
    """A weight tensor as it is deployed, output channel first.

    Args:
        integers: int8 (signed, up to 8 bits) or int32.
        scale: float32, 0-d or ``[channels]``.
        zero_point: int32, 0-d or ``[channels]``.
        scheme: bits, signedness, symmetry, per-channel or not.
    """

    integers: Tensor
    scale: Tensor
    zero_point: Tensor
    scheme: QuantScheme

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return len(self.integers)

    @property
    def channel_scale(self) -> Tensor:
        """Scale of every output channel, ``[channels]``."""
        return self.scale.expand(self.channels)

    @property
    def channel_zero_point(self) -> Tensor:
        """Zero point of every output channel, ``[channels]``."""
        return self.zero_point.expand(self.channels)

    @property
    def terms(self) -> int:
        """Products in one sum of the layer."""
        return self.integers[0].numel()

    def centred(self) -> Tensor:
        """integers - zero point, int32."""
        return self.integers.to(torch.int32) - self._along(self.channel_zero_point)

    def dequantize(self) -> Tensor:
        """The real weight, float32, as the simulation computes with it."""
        return self.centred().to(self.scale.dtype) * self._along(self.channel_scale)

    def _along(self, vector: Tensor) -> Tensor:
        return vector.reshape([-1] + [1] * (self.integers.dim() - 1))
