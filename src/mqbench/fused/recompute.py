"""Fake-quantized tensors are not kept for the backward pass but computed again from what they came from.

A layer keeps its input for the gradient of its weight. For a fake-quantized input that would be one more
tensor of that size than the float network keeps, whose quantizer has kept the unquantized one already. What several
operations read (both convolutions of a layer that folds by batch statistics, branches of a network) is computed again
once for all of them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mqbench.fused.definition import Before, Definition

_MADE = "_mqbench_made"


@dataclass(frozen=True)
class Recipe:
    """How a tensor was made of another by an elementwise definition."""

    definition: Definition
    x: Tensor
    parameters: Sequence[Tensor | None]
    scalars: Sequence[float]
    axis: int | None
    before: Before

    @torch.no_grad()
    def make(self) -> Tensor:
        """The tensor again, the same to the bit."""
        return self.definition.forward(
            self.x.detach(), self.parameters, self.scalars, axis=self.axis, before=self.before
        )


class _Made:
    """What operations keep in place of a tensor: its recipe, and itself from the first backward pass to the last."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._readers = 0
        self._tensor: Tensor | None = None

    def save(self) -> "_Made":
        """For one more operation."""
        self._readers += 1
        return self

    def unpack(self) -> Tensor:
        """For the backward pass of one of them."""
        y = self.recipe.make() if self._tensor is None else self._tensor
        self._readers -= 1
        self._tensor = y if self._readers > 0 else None
        return y


def remember(y: Tensor, recipe: Recipe) -> None:
    """Note on ``y`` how it was made, so that a layer need not keep it."""
    if not torch.compiler.is_compiling() and y.requires_grad and y.device.type == "cpu":
        setattr(y, _MADE, _Made(recipe))


def recipe_of(y: Tensor) -> Recipe | None:
    """What `remember` noted."""
    made = _made(y)
    return None if made is None else made.recipe


def _made(y: Tensor) -> _Made | None:
    return None if torch.compiler.is_compiling() else getattr(y, _MADE, None)


def recomputed(*tensors: Tensor) -> AbstractContextManager[Any]:
    """Inside, operations keep the recipe of a tensor instead of the tensor, where it has one."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return nullcontext()
    keys = [(y.data_ptr(), y.shape, y.stride(), made) for y in tensors if (made := _made(y)) is not None]
    if not keys:
        return nullcontext()

    def pack(saved: Tensor) -> Any:
        for pointer, shape, stride, made in keys:
            if saved.data_ptr() == pointer and saved.shape == shape and saved.stride() == stride:
                return made.save()
        return saved

    return saved_tensors_hooks(pack, _unpack)


def _unpack(kept: Any) -> Tensor:
    return kept.unpack() if isinstance(kept, _Made) else kept
