"""Top-1 accuracy on a test split, shared among processes."""

import torch
from torch import Tensor, nn

from mqbench.data._base import Device, Split, Splits
from mqbench.training._processes import summed

EVALUATION_BATCH = 512
SOME = 64
_PIXELS = 512 * 3 * 32 * 32  # of a batch: large images go in smaller ones


def evaluation_batch(image_shape: tuple[int, ...]) -> int:
    """Images of an evaluation batch: many small ones, fewer large ones."""
    pixels = 1
    for length in image_shape:
        pixels *= length
    return max(16, min(EVALUATION_BATCH, _PIXELS * 4 // pixels))


@torch.no_grad()
def predictions(
    model: nn.Module, splits: Splits, *, device: Device = "cpu", rank: int = 0, processes: int = 1
) -> Tensor:
    """Predicted class of every test image, int64 ``[N]`` on the CPU, in eval mode; modes are restored.

    Args:
        model: from images to logits.
        splits: whose test images are looked at; each process takes every ``processes``-th batch, and the
            others' places hold -1.
        device: of the model.
        rank, processes: of this process, and their number.
    """
    split = splits.test
    picks = split.in_order(evaluation_batch(splits.image_shape))[rank::processes]
    found = torch.full((len(split),), -1)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for pick, (x, _) in zip(picks, split.batches(picks, device=device), strict=True):
        found[pick] = model(in_type_of(model, x)).argmax(1).cpu()
    for module, mode in modes:
        module.training = mode
    return found


def in_type_of(model: nn.Module, x: Tensor) -> Tensor:
    """Images in the floating type of a network's parameters (float64 where it was trained in that)."""
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
    return x.to(kind)


def accuracy(predicted: Tensor, split: Split) -> float:
    """Top-1 accuracy in percent of the predictions that were made (those that are not -1)."""
    return 100 * float((predicted == split.labels).sum()) / max(int((predicted >= 0).sum()), 1)


def evaluate(
    model: nn.Module, splits: Splits, *, device: Device = "cpu", rank: int = 0, processes: int = 1
) -> float:
    """Top-1 accuracy in percent on the test images, shared among the processes."""
    predicted = predictions(model, splits, device=device, rank=rank, processes=processes)
    correct = float((predicted == splits.test.labels).sum())
    images = float((predicted >= 0).sum())
    if processes > 1:
        correct, images = summed(correct, images)
    return 100 * correct / images


def some_images(splits: Splits, device: Device = "cpu") -> Tensor:
    """The first test images, for diagnostics."""
    pick = torch.arange(min(SOME, len(splits.test)))
    images, _ = next(iter(splits.test.batches([pick], device=device)))
    return images
