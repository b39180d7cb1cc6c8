"""What a dataset gives to training: batches of image tensors that depend on nothing but indices and a seed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
Device = torch.device | str
Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How stored pixels become the input of a network; a field left None is the dataset's own.

    Args:
        size: height and width of the input, in pixels.
        crop: share of the shorter side that the centre crop of a test image keeps (224 of 256: 0.875).
        interpolation: of the resizing.
        mean, std: of each channel, subtracted and divided by, for pixels in [0, 1].
    """

    size: int | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Split(ABC):
    """The images and labels of one part of a dataset.

    Attributes:
        labels: class of every image, int64 ``[N]``, on the CPU.
        workers: processes that decode ahead where images are read when they are used; 0 decodes in this
            process, None leaves the number to the split. The images are the same for every number.
    """

    labels: Tensor
    workers: int | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @abstractmethod
    def batches(
        self, picks: Iterable[Tensor], *, augment: int | None = None, device: Device = "cpu"
    ) -> Iterator[Batch]:
        """One batch for every tensor of indices: images ``[n, C, H, W]`` (float32, normalised), labels ``[n]``.

        Args:
            picks: int64 tensors of indices, each ``[n]``.
            augment: None is the test transform. Otherwise training augmentation whose randomness is a
                function of this number and the index of the image alone: however the images are cut into
                batches, by whatever process, in whatever order, each looks the same.
            device: where the batch goes.
        """

    def in_order(self, size: int) -> list[Tensor]:
        """Picks of all images in order."""
        return list(torch.arange(len(self)).split(size))


@dataclass(frozen=True)
class Splits:
    """Training and test images of one dataset, as one network sees them.

    Args:
        train, test: the parts.
        classes: number of classes.
        image_shape: channels, height, width of a batch's images.
        fingerprint: of the stored data (a hash), for provenance.
    """

    train: Split
    test: Split
    classes: int
    image_shape: tuple[int, int, int]
    fingerprint: str


def _unchecked(folder: str | None) -> int | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The size of a dataset: numbers of images and classes, channels, height and width of an input."""

    train_images: int
    test_images: int
    classes: int
    image_shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset.

    Args:
        open: (data folder or None, preprocessing) -> splits.
        check: raises `RequestError` (`DataError` if it is damaged), without reading an image, if it is not in the
            folder as it should be; gives the number of training images where that is known before they are fetched.
        facts: its size, where that is known without the data.
    """

    open: Callable[[str | None, Preprocessing], Splits]
    check: Callable[[str | None], int | None] = _unchecked
    facts: Facts | None = None


class TensorSplit(Split):
    """A split that lies in memory as it is trained on: no augmentation.

    Args:
        images: ``[N, C, H, W]``, float32, normalised.
        labels: ``[N]``, int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def batches(
        self, picks: Iterable[Tensor], *, augment: int | None = None, device: Device = "cpu"
    ) -> Iterator[Batch]:
        for pick in picks:
            yield self.images[pick].to(device), self.labels[pick].to(device)
