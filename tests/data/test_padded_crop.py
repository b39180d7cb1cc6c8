"""Crop and flip of small images in batches, against torchvision's operations one image at a time."""

import numpy as np
import pytest
import torch

from mqbench.data._draws import uniforms
from mqbench.data._padded_crop import crop_and_flip, padded_crop

functional = pytest.importorskip("torchvision.transforms.v2.functional")


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_torchvisions_for_its_crop_and_flip(channels: int) -> None:
    pixels = torch.randint(0, 256, (40, channels, 32, 32), dtype=torch.uint8)
    top, left = torch.randint(0, 9, (2, 40))
    flipped = torch.rand(40) < 0.5
    result = crop_and_flip(pixels, 4, top, left, flipped)
    for i in range(40):
        wanted = functional.crop(functional.pad(pixels[i], [4]), int(top[i]), int(left[i]), 32, 32)
        wanted = functional.horizontal_flip(wanted) if flipped[i] else wanted
        assert torch.equal(result[i], wanted)


def test_crops_and_flips_are_uniform() -> None:
    """A picture that says where it was cut: all 9 x 9 x 2 outcomes, equally often."""
    ramp = (torch.arange(32)[:, None] * 8 + torch.arange(32) // 8).to(torch.uint8)
    ramp[16, :] = torch.arange(32, dtype=torch.uint8) + 1
    n = 8100
    images = padded_crop(ramp.expand(n, 1, 32, 32), uniforms(3, np.arange(n), 3))
    outcomes = {tuple(image.flatten().tolist()) for image in images[:2000]}
    assert len(outcomes) == 162
    counts = np.unique(images.flatten(1).numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 162
    assert ((counts - 50) ** 2 / 50).sum() < 161 + 5 * np.sqrt(2 * 161)
