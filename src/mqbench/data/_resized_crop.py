"""The paper's augmentation of ImageNet: random resized crop, horizontal flip, colour jitter (section 2.1).

The distributions are those of torchvision's `RandomResizedCrop`, `RandomHorizontalFlip` and `ColorJitter`, and
so are the operations on the pixels; only the random numbers come from a table, a row an image.
"""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqbench.data._base import Interpolation

AREA = (0.08, 1.0)  # share of the image
RATIO = (3 / 4, 4 / 3)
BRIGHTNESS = CONTRAST = SATURATION = 0.2
HUE = 0.1
_TRIALS = 10
_JITTERS = 4
NUMBERS = 1 + 2 * _JITTERS + 4 * _TRIALS


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one training image is augmented.

    Args:
        top, left, height, width: of the crop, in pixels.
        flip: whether it is mirrored.
        order: of brightness, contrast, saturation and hue (0 to 3).
        factors: of the four; 1 and, for the hue, 0 change nothing.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool
    order: tuple[int, ...]
    factors: tuple[float, ...]


def look(uniforms: NDArray[np.float64], height: int, width: int) -> Look:
    """What a row of `NUMBERS` random numbers in [0, 1) says for an image of this size."""
    u = uniforms.tolist()
    spread = (BRIGHTNESS, CONTRAST, SATURATION, HUE)
    centre = (1.0, 1.0, 1.0, 0.0)
    factors = tuple(c + s * (2 * v - 1) for c, s, v in zip(centre, spread, u[1:5], strict=True))
    order = tuple(int(k) for k in np.argsort(uniforms[5:9], kind="stable"))
    top, left, crop_height, crop_width = _crop(u[9:], height, width)
    return Look(
        top=top,
        left=left,
        height=crop_height,
        width=crop_width,
        flip=u[0] < 0.5,
        order=order,
        factors=factors,
    )


def _crop(u: list[float], height: int, width: int) -> tuple[int, int, int, int]:
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for k in range(0, 4 * _TRIALS, 4):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * u[k])
        ratio = math.exp(low + (high - low) * u[k + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(u[k + 2] * (height - h + 1)), int(u[k + 3] * (width - w + 1)), h, w
    # no crop fitted: as much of the centre as the ratios allow
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def resized_crop(image: Any, look: Look, size: int, interpolation: Interpolation) -> Any:
    """The augmented PIL image, ``size`` x ``size``."""
    functional: Any = import_module("torchvision.transforms.v2.functional")
    modes: Any = import_module("torchvision.transforms").InterpolationMode
    box = (look.top, look.left, look.height, look.width)
    image = functional.resized_crop(image, *box, [size, size], modes(interpolation))
    if look.flip:
        image = functional.horizontal_flip(image)
    names = ("brightness", "contrast", "saturation", "hue")
    for k in look.order:
        image = getattr(functional, f"adjust_{names[k]}")(image, look.factors[k])
    return image
