"""What a quantizer's integers look like, and how a range becomes a scale and a zero point."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mqbench.errors import RequestError

if TYPE_CHECKING:
    import torch

MIN_BITS, MAX_BITS = 2, 16


@dataclass(frozen=True, kw_only=True)
class QuantScheme:
    """The grid of a uniform quantizer (SPEC section 1).

    Args:
        bits: width of the integers, 2 to 16.
        symmetric: the zero point is fixed at 0; otherwise any integer of the range.
        signed: range [-2^(bits-1), 2^(bits-1)-1]; otherwise [0, 2^bits-1].
        per_channel: one scale (and zero point) for each output channel; weights only.
        power_of_two: the scale is rounded to 2^k.

    Raises:
        RequestError: bits outside 2 to 16 or not an integer, or another field that is not True or False.

    >>> QuantScheme(bits=4).quant_min, QuantScheme(bits=4, signed=False).quant_max
    (-8, 15)
    """

    bits: int = 4
    symmetric: bool = True
    signed: bool = True
    per_channel: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int):
            raise RequestError(f"bits must be an integer from {MIN_BITS} to {MAX_BITS}, got {self.bits!r}")
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise RequestError(f"bits must be from {MIN_BITS} to {MAX_BITS}, got {self.bits}")
        for name in ("symmetric", "signed", "per_channel", "power_of_two"):
            if not isinstance(value := getattr(self, name), bool):
                raise RequestError(f"{name} must be True or False, got {value!r}")

    @property
    def quant_min(self) -> int:
        """Smallest integer of the range (Nmin)."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def quant_max(self) -> int:
        """Largest integer of the range (Nmax)."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    @property
    def description(self) -> str:
        """In words, for printing."""
        traits = [f"{self.bits} bits", "symmetric" if self.symmetric else "asymmetric"]
        traits += ["signed" if self.signed else "unsigned"]
        return ", ".join(traits + ["per-channel"] * self.per_channel + ["power-of-two"] * self.power_of_two)


@dataclass(frozen=True)
class QParams:
    """Scale and zero point of a uniform quantizer.

    ``scale`` is a positive float tensor and ``zero_point`` an int32 tensor; both are 0-d for a
    per-tensor quantizer and of shape ``[channels]`` for a per-channel one.
    """

    scale: "torch.Tensor" = field()
    zero_point: "torch.Tensor" = field()
