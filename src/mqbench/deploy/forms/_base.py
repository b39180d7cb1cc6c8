"""What an engine's ONNX file looks like, where one file cannot serve all: a form is data."""

from dataclasses import dataclass
from typing import Literal

from mqbench.deploy.program import Grid
from mqbench.errors import IncompatibleError

OLDEST_OPSET, OPSET = 13, 17


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to write a `Program` as ONNX with explicit QuantizeLinear/DequantizeLinear.

    Args:
        activations: container of activation integers. ``uint8``: signed grids are shifted by 128, which
            changes nothing but the code; ``int8`` likewise for unsigned grids; ``own``: as the grid has it.
        clip: how a clip behind an operation (ReLU6, a grid narrower than the container) is written.
            ``needed``: an integer Clip after QuantizeLinear where the container does not clip by itself;
            ``always``: after every QuantizeLinear behind an operation; ``float``: a Relu before it where
            the grid fills the container, otherwise a Clip that ends where the grid does.
        bias: ``int32`` with scale s_x s_w behind a DequantizeLinear, or ``float``.
        integer_moves: moves (maximum pooling, reshape) act on integer tensors; otherwise between
            DequantizeLinear and QuantizeLinear of the same grid.
        residual: how the quantizer of a layer that only adds read is written: ``quantizer``, as everywhere; ``float``:
            as division, rounding and clip of floats, for an engine that drops a quantizer there.
        padded_pools: average pooling pads by itself; otherwise a Pad of integers comes before it, for an engine that
            pads integers with 0 in place of their zero point.
        weight_zero_points, activation_zero_points: the engine takes others than 0.
        opset: that is written.
        oldest_opset: that the form can be written with.
    """

    activations: Literal["uint8", "int8", "own"] = "own"
    clip: Literal["needed", "always", "float"] = "needed"
    bias: Literal["int32", "float"] = "int32"
    integer_moves: bool = True
    residual: Literal["quantizer", "float"] = "quantizer"
    padded_pools: bool = True
    weight_zero_points: bool = True
    activation_zero_points: bool = True
    opset: int = OPSET
    oldest_opset: int = OLDEST_OPSET

    def container(self, grid: Grid) -> tuple[Literal["uint8", "int8"], int]:
        """Type of an activation's container, and what is added to the grid's integers in it.

        Raises:
            IncompatibleError: the grid has more than 8 bits.
        """
        if grid.scheme.bits > 8:
            raise IncompatibleError(
                f"8-bit engines take activations of 2 to 8 bits, got {grid.scheme.bits}; prepare the network with "
                "fewer bits"
            )
        own: Literal["uint8", "int8"] = "int8" if grid.scheme.signed else "uint8"
        kind = own if self.activations == "own" else self.activations
        return kind, {("int8", "uint8"): 128, ("uint8", "int8"): -128}.get((own, kind), 0)
