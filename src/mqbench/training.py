"""The one training pipeline: every algorithm is trained by it, with the recipe of the architecture."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mqbench.architectures._base import Recipe
from mqbench.data._base import Batch, Split, Splits
from mqbench.layers import BATCH_NORMS
from mqbench.quantizer import FakeQuantize
from mqbench.record import CurvePoint

EVALUATION_BATCH = 512
CHANCE_FACTOR = 1.5


@dataclass(frozen=True)
class Training:
    """What a training gave: the curve, and why it did not converge (None if it did)."""

    curve: tuple[CurvePoint, ...]
    not_converged: str | None = None


def train(
    model: nn.Module,
    splits: Splits,
    recipe: Recipe,
    *,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Training:
    """Train ``model`` in place for ``recipe.epochs`` epochs.

    SGD 0.9 Nesterov, linear warm-up then cosine to zero, both by step, label smoothing (section 2.1).
    A loss that is not finite ends the run at once; an accuracy at the end that is hardly above chance
    counts as not converged too (the paper's NC).

    Args:
        model: any module from images to logits.
        splits: training and test images.
        recipe: hyper-parameters.
        seed: of the order of the images.
        progress: called with (epochs done, epochs) after each epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(recipe.batch_size, len(splits.train))
    steps = len(splits.train) // size
    optimizer = torch.optim.SGD(
        list(parameter_groups(model, recipe)),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, steps, recipe))
    curve: list[CurvePoint] = []
    for epoch in range(recipe.epochs):
        rate = float(schedule.get_last_lr()[0])
        model.train()
        total, correct, images = 0.0, 0, 0
        order = torch.randperm(len(splits.train), generator=generator)
        picks = order[: steps * size].split(size)
        for x, y in splits.train.batches(picks, augment=seed + epoch):
            logits = model(x)
            loss = F.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
            value = loss.item()
            if not math.isfinite(value):
                return Training(tuple(curve), f"loss became {value} in epoch {epoch + 1}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total, images = total + value * len(y), images + len(y)
            correct += int((logits.detach().argmax(1) == y).sum())
        curve.append(
            CurvePoint(
                epoch=epoch + 1,
                learning_rate=rate,
                train_loss=total / images,
                train_accuracy=100 * correct / images,
                test_accuracy=evaluate(model, splits.test),
            )
        )
        progress(epoch + 1, recipe.epochs)
    return Training(tuple(curve), _verdict(curve, splits.classes))


def _verdict(curve: list[CurvePoint], classes: int) -> str | None:
    if curve and curve[-1].test_accuracy < CHANCE_FACTOR * 100 / classes:
        return "accuracy at chance"
    return None


def rate_factor(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate at a step over its peak: linear warm-up, then cosine to zero."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / warmup
    total = max(recipe.epochs * steps_per_epoch - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / total, 1.0)))


def parameter_groups(model: nn.Module, recipe: Recipe) -> Iterator[dict[str, object]]:
    """Parameters with and without weight decay.

    Scales and clipping thresholds decay like weights (the paper's Table 8, first row); zero points never
    (decay would drag them away from the edge of the grid).
    """
    free: set[Tensor] = set()
    for module in model.modules():
        if isinstance(module, FakeQuantize):
            free.update(p for n, p in module.named_parameters(recurse=False) if n in module.no_decay)
        elif isinstance(module, BATCH_NORMS) and not recipe.decay_batch_norm:
            free.update(module.parameters(recurse=False))
    every = [p for p in model.parameters() if p.requires_grad]
    yield {"params": [p for p in every if p not in free], "weight_decay": recipe.weight_decay}
    yield {"params": [p for p in every if p in free], "weight_decay": 0.0}


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> float:
    """Top-1 accuracy in percent, in eval mode; the mode of ``model`` is restored."""
    training = model.training
    model.eval()
    correct = images = 0
    for x, y in split.batches(split.in_order(EVALUATION_BATCH)):
        correct += int((model(x).argmax(1) == y).sum())
        images += len(y)
    model.train(training)
    return 100 * correct / images


def calibration_batches(split: Split, recipe: Recipe, seed: int) -> list[Batch]:
    """Random training images for calibration, in batches of the recipe's size."""
    generator = torch.Generator().manual_seed(seed)
    pick = torch.randperm(len(split), generator=generator)[: recipe.calibration_images]
    return list(split.batches(pick.split(recipe.batch_size)))
