"""The transform of a dataset that nobody described: that of CIFAR for small images of one size, else ImageNet's."""

from dataclasses import replace

import numpy as np

from mqbench.data._stored import Stored
from mqbench.data._transform import Transform

LOOKED_AT = 64  # images, spread over the split
SMALL = 96  # pixels of the longer side
_GREY = ("1", "L", "I")  # how modes of one channel begin
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images
IMAGENET = Transform(
    size=224, crop=0.875, interpolation="bilinear", mean=MEAN, std=STD, augmentation="resized_crop"
)


def guess(stored: Stored) -> Transform:
    """By the sizes and modes of some of its images.

    Raises:
        DataError: one of them is no readable image.
    """
    rows = np.linspace(0, len(stored) - 1, min(LOOKED_AT, len(stored)), dtype=int).tolist()
    seen = {(image.size, image.mode) for image in stored.images(rows)}
    grey = all(mode.startswith(_GREY) and mode != "LAB" for _, mode in seen)
    mean, std = ((float(np.mean(MEAN)),), (float(np.mean(STD)),)) if grey else (MEAN, STD)
    large = replace(IMAGENET, mean=mean, std=std)
    sizes = {size for size, _ in seen}
    if len(sizes) > 1 or max(max(sizes)) > SMALL:
        return large
    return replace(large, size=min(max(sizes)), crop=1.0, augmentation="padded_crop")
