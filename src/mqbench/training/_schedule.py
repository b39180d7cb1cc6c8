"""Learning rate by step, and which parameters decay (paper section 2.1, SPEC section 7)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mqbench.architectures._base import Recipe
from mqbench.layers import BATCH_NORMS
from mqbench.quantizer import FakeQuantize


def warmup_steps(total: int, steps_per_epoch: int, recipe: Recipe) -> int:
    """Steps of the linear warm-up: the recipe's epochs, but at most a tenth of a short training."""
    return min(recipe.warmup_epochs * steps_per_epoch, total // 10)


def rate_factor(step: int, total: int, warmup: int) -> float:
    """Learning rate at a step over its peak: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1.0)))


def parameter_groups(
    model: nn.Module, recipe: Recipe, quantizer_weight_decay: float | None = None
) -> Iterator[dict[str, object]]:
    """Parameters by weight decay: weights, quantizers, and those that never decay.

    Scales and clipping thresholds decay like weights unless another L2 is given (the paper's Table 8);
    zero points never do (decay would drag them away from the edge of the grid).
    """
    free: set[Tensor] = set()
    learned: set[Tensor] = set()
    for module in model.modules():
        if isinstance(module, FakeQuantize):
            for name, parameter in module.named_parameters(recurse=False):
                (free if name in module.no_decay else learned).add(parameter)
        elif isinstance(module, BATCH_NORMS) and not recipe.decay_batch_norm:
            free.update(module.parameters(recurse=False))
    every = [p for p in model.parameters() if p.requires_grad]
    of_quantizers = recipe.weight_decay if quantizer_weight_decay is None else quantizer_weight_decay
    yield {
        "params": [p for p in every if p not in free and p not in learned],
        "weight_decay": recipe.weight_decay,
    }
    yield {"params": [p for p in every if p in learned], "weight_decay": of_quantizers}
    yield {"params": [p for p in every if p in free], "weight_decay": 0.0}


def optimizer_of(
    model: nn.Module, recipe: Recipe, quantizer_weight_decay: float | None = None
) -> torch.optim.SGD:
    """SGD with Nesterov momentum over `parameter_groups`, each parameter updated in one pass over its memory."""
    groups = [group for group in parameter_groups(model, recipe, quantizer_weight_decay) if group["params"]]
    return torch.optim.SGD(
        groups or [{"params": []}],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
        fused=True,
    )
