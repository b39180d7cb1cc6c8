"""What a quantizer does to each element, and what may be computed on the way into it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from mqbench.fused.activation import Clip
from mqbench.fused.shapes import broadcast


class Affine(NamedTuple):
    """(x - mean) factor + shift, each ``[channels]`` along axis 1: what a batch norm does once it has statistics."""

    mean: Tensor
    factor: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The tensor that is normalised so."""
        mean, factor, shift = (broadcast(p, x, 1) for p in self)
        return (x - mean) * factor + shift


class Before(NamedTuple):
    """What is computed on the way into an elementwise function, in the same pass.

    Attributes:
        affine: first, or instead of it
        gain: ``[channels]`` along axis 0, multiplied in (a folded batch norm's factor, into a weight);
        clip: then.
        through: the vectors of the affine do not depend on x, so that the gradient of x is known at once; else the
            gradient of the affine's result is asked for.
    """

    affine: Affine | None = None
    clip: Clip | None = None
    gain: Tensor | None = None
    through: bool = False

    def first(self, x: Tensor) -> Tensor:
        """``x`` with the affine or the gain applied."""
        if self.gain is not None:
            return x * broadcast(self.gain, x, 0)
        return x if self.affine is None else self.affine(x)


NOTHING = Before()


class Definition(Protocol):
    """What a quantizer does to each element: `Elementwise`, or with a forward pass of its own."""

    def forward(
        self,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        before: Before = NOTHING,
    ) -> Tensor:
        """y, of the shape of ``x``. No gradient is recorded."""

    def backward(
        self,
        gradient: Tensor,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        before: Before = NOTHING,
    ) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """Gradients: of x, of what comes before, and of each parameter."""
