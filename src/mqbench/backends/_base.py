"""What an inference library computes, as frozen values (paper Table 2 and appendix E, SPEC section 10)."""

from dataclasses import dataclass, replace
from typing import Literal

from mqbench.errors import RequestError
from mqbench.scheme import QuantScheme


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One inference library.

    Args:
        library, provider, hardware: as in the paper's Table 2.
        weight, activation: the grids; their bits are replaced by those of the run.
        graph: 1, 2 or 3: which tensors are quantized (paper Fig. 4).
        bn_folding: folding strategy, -1 to 4.
        adaptive_sign: activations turn unsigned where calibration saw no negative value.
        integer: runs on integers, so that only deployable algorithms make sense.
        form: of its ONNX file, a name from ``mqbench.deploy.forms``.

    Raises:
        RequestError: per-channel activations, a graph or a strategy that does not exist.
    """

    library: str
    provider: str
    hardware: str
    weight: QuantScheme
    activation: QuantScheme
    graph: Literal[1, 2, 3]
    bn_folding: int
    adaptive_sign: bool = False
    integer: bool = True
    form: str = "onnxruntime"

    def __post_init__(self) -> None:
        if self.activation.per_channel:
            raise RequestError(f"{self.library}: activations are quantized per tensor, got per-channel")
        if self.graph not in (1, 2, 3):
            raise RequestError(f"{self.library}: graph must be 1, 2 or 3, got {self.graph}")
        if self.bn_folding not in range(-1, 5):
            raise RequestError(f"{self.library}: bn_folding must be -1 to 4, got {self.bn_folding}")

    def weight_scheme(self, bits: int) -> QuantScheme:
        """The weight grid at a bit-width."""
        return replace(self.weight, bits=bits)

    def activation_scheme(self, bits: int) -> QuantScheme:
        """The activation grid at a bit-width."""
        return replace(self.activation, bits=bits)
