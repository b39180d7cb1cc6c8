"""What enters a quantizer: a tensor, perhaps with a batch norm, a factor or an activation still to be computed."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mqbench.fused.activation import Clip
from mqbench.fused.behind import computed
from mqbench.fused.norm import Deferred, DeferredNorm, Rescaled
from mqbench.fused.recompute import Recipe
from mqbench.fused.shapes import broadcast


class Incoming(NamedTuple):
    """``clip(norm(tensor))`` or ``clip(tensor * gain)``, all of which a definition can compute in its own pass.

    The gain is ``[channels]`` along axis 0: the factor of a folded batch norm, for a weight. What was made and how
    is noted in ``made``, if that is there.
    """

    tensor: Tensor
    norm: Deferred | None = None
    clip: Clip | None = None
    gain: Tensor | None = None
    made: list[tuple[Tensor, Recipe]] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements."""
        return self.tensor.dtype

    def numel(self) -> int:
        """Number of elements."""
        return self.tensor.numel()

    def with_norm(self) -> "Incoming":
        """The same with the batch norm computed, or the gain."""
        if self.gain is not None:
            return Incoming(self.tensor * broadcast(self.gain, self.tensor, 0), None, self.clip)
        return self if self.norm is None else Incoming(computed(self.norm), None, self.clip)

    def whole(self) -> Tensor:
        """The tensor with everything computed."""
        x = self.with_norm().tensor
        return x if self.clip is None else self.clip(x)


def incoming(
    x: Tensor | Deferred | Incoming, clip: Clip | None = None, gain: Tensor | None = None
) -> Incoming:
    """``x``, as what enters a quantizer, with a clip and a gain still to come."""
    if isinstance(x, Incoming):
        return x
    if isinstance(x, DeferredNorm | Rescaled):
        return Incoming(x.output, x, clip)
    return Incoming(x, None, clip, gain)


def recipe_of(quantize: Callable[[Incoming], Tensor], x: Incoming) -> Tensor | Recipe:
    """What ``quantize`` would do, to be done by who reads it; or done, if it is more than one definition."""
    made: list[tuple[Tensor, Recipe]] = []
    y = quantize(x._replace(made=made))
    return made[0][1] if made and made[0][0] is y else y
