"""Fake-quantized tensors are not kept for the backward pass but computed again from what they came from.

A layer keeps its input for the gradient of its weight. For a fake-quantized input that would be one more
tensor of that size than the float network keeps, whose quantizer has kept the unquantized one already.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mqbench.fused.definition import Before, Definition

_RECIPE = "_mqbench_recipe"


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


def remember(y: Tensor, recipe: Recipe) -> None:
    """Note on ``y`` how it was made, so that a layer need not keep it."""
    if not torch.compiler.is_compiling() and y.requires_grad and y.device.type == "cpu":
        setattr(y, _RECIPE, recipe)


def recipe_of(y: Tensor) -> Recipe | None:
    """What `remember` noted."""
    return None if torch.compiler.is_compiling() else getattr(y, _RECIPE, None)


def recomputed(*tensors: Tensor) -> AbstractContextManager[Any]:
    """Inside, operations keep the recipe of a tensor instead of the tensor, where it has one."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return nullcontext()
    keys = [
        (y.data_ptr(), y.shape, y.stride(), recipe) for y in tensors if (recipe := recipe_of(y)) is not None
    ]
    if not keys:
        return nullcontext()

    def pack(saved: Tensor) -> Any:
        for pointer, shape, stride, recipe in keys:
            if saved.data_ptr() == pointer and saved.shape == shape and saved.stride() == stride:
                return recipe
        return saved

    return saved_tensors_hooks(pack, _unpack)


def _unpack(kept: Any) -> Tensor:
    return kept.make() if isinstance(kept, Recipe) else kept
