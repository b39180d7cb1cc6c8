"""What a dataset gives to training: image tensors in memory, batched in a reproducible order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Split:
    """Images ``[N, C, H, W]`` (float32, normalised) and labels ``[N]`` (int64)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[Batch]:
        """All images in order."""
        yield from zip(self.images.split(size), self.labels.split(size), strict=True)

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """All images in a random order; the last incomplete batch is left out."""
        order = torch.randperm(len(self), generator=generator)
        for start in range(0, len(self) - size + 1, size):
            pick = order[start : start + size]
            yield self.images[pick], self.labels[pick]


@dataclass(frozen=True)
class Splits:
    """Training and test images of one dataset."""

    train: Split
    test: Split
    classes: int


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset.

    Args:
        load: from the data folder (None: the dataset ships with a dependency) to the splits.
        classes: number of classes.
        image_shape: channels, height, width.
    """

    load: Callable[[str | None], Splits]
    classes: int
    image_shape: tuple[int, int, int]
