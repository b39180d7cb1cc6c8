"""Splits of large images: worker processes decode and augment them a batch at a time, ahead of the training."""

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mqbench.data import _padded_crop, _resized_crop
from mqbench.data._base import Batch, Device, Split
from mqbench.data._draws import uniforms
from mqbench.data._stored import Stored
from mqbench.data._transform import Pixels, Transform, planes
from mqbench.errors import DataError

_MOST_WORKERS = 8  # that are started unasked


class StreamSplit(Split):
    """Images that are read when they are used.

    Args:
        stored: the encoded images.
        transform: from a stored image to an input.
    """

    def __init__(self, stored: Stored, transform: Transform) -> None:
        self.stored, self.transform = stored, transform
        self.labels = stored.labels()

    def batches(
        self, picks: Iterable[Tensor], *, augment: int | None = None, device: Device = "cpu"
    ) -> Iterator[Batch]:
        device = torch.device(device)
        loader: DataLoader[Any] = DataLoader(
            _Reader(self.stored, self.labels, self.transform, augment),  # type: ignore[arg-type]
            batch_sampler=(pick.tolist() for pick in picks),
            num_workers=reading_processes(self.workers, device),
            collate_fn=_same,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # the loader would draw from torch's own, which trains the network
        )
        for item in loader:
            if isinstance(item, DataError):
                raise item
            pixels, labels = (tensor.to(device, non_blocking=True) for tensor in item)
            yield self.transform.normalise(pixels), labels


def reading_processes(asked: int | None, device: torch.device) -> int:
    """What was asked for; else one beside a CPU that trains, and this process's share of the cores for a GPU."""
    if multiprocessing.current_process().daemon:  # may have no children
        return 0
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type == "cpu":
        return min(cores - 1, 1)
    return min(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), _MOST_WORKERS)


@dataclass(frozen=True)
class _Reader:
    """What a worker does: indices -> fitted or augmented images, uint8.

    An error is returned and not raised: `DataLoader` would bury its sentence in a worker's traceback.
    """

    stored: Stored
    labels: Tensor
    transform: Transform
    augment: int | None

    def __getitems__(self, indices: list[int]) -> Batch | DataError:
        try:
            return self._pixels(indices), self.labels[indices]
        except DataError as error:
            return error

    def _pixels(self, indices: list[int]) -> Tensor:
        images = self.stored.images(indices)
        if self.augment is None or self.transform.augmentation == "none":
            return _stacked(self.transform.fit(image) for image in images)
        places = np.asarray(indices, dtype=np.int64)
        if self.transform.augmentation == "padded_crop":
            fitted = _stacked(self.transform.fit(image) for image in images)
            return _padded_crop.padded_crop(fitted, uniforms(self.augment, places, _padded_crop.NUMBERS))
        numbers = uniforms(self.augment, places, _resized_crop.NUMBERS)
        size, interpolation = self.transform.size, self.transform.interpolation
        looks = (
            (whole := self.transform.converted(image), _resized_crop.look(row, whole.height, whole.width))
            for image, row in zip(images, numbers, strict=True)
        )
        return _stacked(planes(_resized_crop.resized_crop(*each, size, interpolation)) for each in looks)


def _stacked(images: Iterable[Pixels]) -> Tensor:
    return torch.from_numpy(np.stack(list(images)))


def _same(item: Any) -> Any:
    """In place of collating: a worker makes whole batches."""
    return item
