"""From a stored image to the input of a network: fit to size, then normalise."""

import math
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mqbench.data._base import Interpolation, Preprocessing
from mqbench.data._name import Augmentation
from mqbench.errors import RequestError

Pixels = NDArray[np.uint8]
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, kw_only=True)
class Transform:
    """How images of one dataset become inputs.

    A test image is resized until its shorter side is ``size / crop`` (rounded down), then the square in its
    centre is cut out: torchvision's `Resize` and `CenterCrop` on a PIL image, with timm's meaning of ``crop``.

    Args:
        size: height and width of the input, in pixels.
        crop: share of the shorter side that is kept.
        interpolation: of the resizing.
        mean, std: of each channel, for pixels in [0, 1].
        augmentation: of training images.
    """

    size: int
    crop: float
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation

    @property
    def channels(self) -> int:
        """Of the input: 1 (grey) or 3."""
        return len(self.mean)

    def changed(self, asked: Preprocessing, augmentation: Augmentation | None = None) -> "Transform":
        """With the fields that a network and a user ask for; grey images become RGB for a network of colours.

        Raises:
            RequestError: a value that no image can have.
        """
        fields = ("size", "crop", "interpolation", "mean", "std")
        given: dict[str, Any] = {n: value for n in fields if (value := getattr(asked, n)) is not None}
        if augmentation is not None:
            given["augmentation"] = augmentation
        grey = self.channels == 1 and len(given.get("mean", ())) == 3
        own = replace(self, mean=self.mean * 3, std=self.std * 3) if grey else self
        changed = replace(own, **given)
        for name in ("mean", "std"):
            if len(getattr(changed, name)) != own.channels:
                raise RequestError(f"{name} must have {own.channels} values, got {getattr(changed, name)}")
        if changed.size < 1 or not 0 < changed.crop <= 1 or min(changed.std) <= 0:
            raise RequestError(
                "preprocessing needs size >= 1, 0 < crop <= 1 and std > 0, got "
                f"size={changed.size}, crop={changed.crop}, std={changed.std}"
            )
        return changed

    def converted(self, image: Any) -> Any:
        """A PIL image of the mode that the network takes; of 16 bits the upper 8, where PIL would clip to white."""
        mode = MODES[self.channels]
        if image.mode.startswith("I"):  # more than 16 bits are refused where images are read
            pil: Any = import_module("PIL.Image")
            image = pil.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image if image.mode == mode else image.convert(mode)

    def fit(self, image: Any) -> Pixels:
        """The test transform of a PIL image, before normalisation; ``[C, size, size]``."""
        image = self.converted(image)
        shorter = math.floor(self.size / self.crop)
        if image.size != (self.size, self.size) or shorter != self.size:
            functional: Any = import_module("torchvision.transforms.v2.functional")
            modes: Any = import_module("torchvision.transforms").InterpolationMode
            image = functional.resize(image, [shorter], modes(self.interpolation))
            image = functional.center_crop(image, [self.size])
        return planes(image)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Float images of uint8 ones, ``[n, C, H, W]``.

        Three operations that IEEE 754 rounds one by one: a fused one would give a pixel other bits by where
        in the batch it stands, because the ends of a tensor are computed by other instructions.
        """
        mean, std = (
            torch.tensor(v, dtype=torch.float32, device=pixels.device).view(-1, 1, 1)
            for v in (self.mean, self.std)
        )
        return pixels.float().div_(255).sub_(mean).div_(std)


def planes(image: Any) -> Pixels:
    """The pixels of a PIL image, ``[C, H, W]``."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
