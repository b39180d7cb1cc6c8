"""Splits of small images that lie decoded in memory and are augmented a batch at a time, on the device."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mqbench.data._base import Batch, Device, Split
from mqbench.data._draws import uniforms
from mqbench.data._padded_crop import NUMBERS, padded_crop
from mqbench.data._transform import Transform


class MemorySplit(Split):
    """Fitted images as bytes.

    Args:
        pixels: ``[N, C, S, S]``, uint8; may be mapped from a file.
        labels: ``[N]``, int64.
        transform: normalisation and augmentation.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, transform: Transform) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform
        self._copies: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def batches(
        self, picks: Iterable[Tensor], *, augment: int | None = None, device: Device = "cpu"
    ) -> Iterator[Batch]:
        pixels, labels = self._on(torch.device(device))
        for pick in picks:
            place = pick.to(pixels.device)
            images = pixels[place]
            if augment is not None and self.transform.augmentation == "padded_crop":
                images = padded_crop(images, uniforms(augment, pick.cpu().numpy(), NUMBERS))
            yield self.transform.normalise(images), labels[place]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """All images on the device, copied there once."""
        if device.type == "cpu":
            return self.pixels, self.labels
        if device not in self._copies:
            self._copies[device] = self.pixels.to(device), self.labels.to(device)
        return self._copies[device]
