"""Fake-quantized tensors are not kept for the backward pass but computed again from what they came from.

A layer keeps its input for the gradient of its weight. For a fake-quantized input that would be one more
tensor of that size than the float network keeps, whose quantizer has kept the unquantized one already; making
it again is one pass, cheaper on a CPU than touching the fresh memory to keep it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_RECIPE = "_mqbench_recipe"


class _Recipe:
    """How to make a tensor again."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self.make = make


def remember(y: Tensor, make: Callable[[], Tensor]) -> None:
    """Note on ``y`` that ``make()`` gives its values again, to the bit."""
    setattr(y, _RECIPE, _Recipe(make))


def recomputed(*tensors: Tensor) -> AbstractContextManager[Any]:
    """Inside, operations keep the recipe of a tensor instead of the tensor, where it has one."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return nullcontext()
    known = [(y, recipe) for y in tensors if (recipe := getattr(y, _RECIPE, None)) is not None]
    if not known:
        return nullcontext()
    keys = [(y.data_ptr(), y.shape, y.stride(), recipe) for y, recipe in known]

    def pack(saved: Tensor) -> Any:
        for pointer, shape, stride, recipe in keys:
            if saved.data_ptr() == pointer and saved.shape == shape and saved.stride() == stride:
                return recipe
        return saved

    return saved_tensors_hooks(pack, _unpack)


@torch.no_grad()
def _unpack(kept: Any) -> Tensor:
    return kept.make() if isinstance(kept, _Recipe) else kept
