"""Which images make up which batch: a function of the seed, the epoch and the step alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mqbench.architectures._base import Recipe
from mqbench.data._base import Batch, Device, Split
from mqbench.errors import RequestError

_MIX = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: neighbouring seeds share no stream
_WORD = (1 << 63) - 1


def mixed(seed: int, epoch: int) -> int:
    """One number for a seed and an epoch, of 63 bits."""
    z = (seed * _MIX + epoch + 1) * 0xBF58476D1CE4E5B9
    return (z ^ (z >> 31)) & _WORD


def check_batch(recipe: Recipe, processes: int, images: int | None = None, cure: str | None = None) -> None:
    """Raise `RequestError` if processes cannot make up the global batch, or there are too few images for it.

    ``cure`` is what to do about the processes where it is not to choose another batch.
    """
    if recipe.global_batch % (recipe.batch_size * processes):
        each, rest = divmod(recipe.global_batch, processes)
        choice = (
            f"processes that divide {recipe.global_batch}" if rest else f"a batch_size that divides {each}"
        )
        raise RequestError(
            f"a global batch of {recipe.global_batch} images cannot be made of {processes} processes with "
            f"batch_size {recipe.batch_size}; {cure or f'choose {choice}'}"
        )
    if images is not None and recipe.global_batch > images:
        raise RequestError(
            f"batch_size must give a global batch of at most the {images} training images, got "
            f"{recipe.global_batch}; set batch_size and global_batch, for the float network that quantized runs "
            "start from float_batch"
        )


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How an epoch is cut: ``steps`` global batches, each of micro-batches that processes share.

    Args:
        images: of the training split.
        size: images of one process and micro-batch.
        processes: that train together.
        accumulate: micro-batches of an optimizer step.
        seed: of the order.
    """

    images: int
    size: int
    processes: int
    accumulate: int
    seed: int

    @classmethod
    def of(cls, images: int, recipe: Recipe, processes: int, seed: int) -> "BatchPlan":
        """The plan of a recipe, whose global batch it keeps on any number of processes.

        Raises:
            RequestError: the global batch cannot be divided so, or is larger than the training split.
        """
        check_batch(recipe, processes, images)
        accumulate = recipe.global_batch // (recipe.batch_size * processes)
        return cls(
            images=images, size=recipe.batch_size, processes=processes, accumulate=accumulate, seed=seed
        )

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch; images that do not fill a last one are left out."""
        return self.images // (self.size * self.processes * self.accumulate)

    def total(self, epochs: int, steps: int | None) -> int:
        """Optimizer steps of a training of so many epochs, or of so many steps."""
        return epochs * self.steps if steps is None else steps

    def picks(self, epoch: int, rank: int, first_step: int = 0) -> list[Tensor]:
        """Indices of the micro-batches of a process in an epoch (from 0), from a step on."""
        generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
        order = torch.randperm(self.images, generator=generator)
        together = self.size * self.processes
        blocks = order[: self.steps * self.accumulate * together].split(together)
        part = slice(rank * self.size, (rank + 1) * self.size)
        return [block[part] for block in blocks[first_step * self.accumulate :]]

    def augment(self, epoch: int) -> int:
        """Number that the augmentation of an epoch depends on."""
        return mixed(self.seed ^ 0x5DEECE66D, epoch)


def calibration_batches(
    split: Split, count: int, batch_size: int, seed: int, device: Device = "cpu"
) -> list[Batch]:
    """Random training images (test transform) for calibration, in batches."""
    generator = torch.Generator().manual_seed(seed)
    pick = torch.randperm(len(split), generator=generator)[:count]
    return list(split.batches(pick.split(batch_size), device=device))
