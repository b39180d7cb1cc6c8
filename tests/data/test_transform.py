"""The test transform against torchvision and timm on the same PIL images; normalisation to the bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

import tiny
from mqbench.data._base import Interpolation, Preprocessing
from mqbench.data._guess import IMAGENET
from mqbench.errors import RequestError

SIZES = [(500, 375), (333, 500), (256, 256), (341, 256), (120, 90), (224, 224)]
MODES: dict[Interpolation, InterpolationMode] = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_fit_is_torchvisions(size: tuple[int, int], interpolation: Interpolation) -> None:
    image = tiny.picture(1, size)
    reference = transforms.Compose(
        [transforms.Resize(256, MODES[interpolation]), transforms.CenterCrop(224), transforms.PILToTensor()]
    )
    fitted = replace(IMAGENET, interpolation=interpolation).fit(image)
    assert np.array_equal(fitted, reference(image).numpy())


def test_it_is_timms_for_efficientnet_lite0() -> None:
    """Resize 256 bicubic, crop 224, mean and std 0.5: what the TensorFlow weights were evaluated with."""
    timm_data: Any = pytest.importorskip("timm.data")
    asked = Preprocessing(size=224, crop=0.875, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    image = tiny.picture(2, (400, 301))
    reference = timm_data.create_transform(
        (3, 224, 224), interpolation="bicubic", crop_pct=0.875, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    transform = IMAGENET.changed(asked)
    ours = transform.normalise(torch.from_numpy(transform.fit(image))[None])[0]
    assert torch.allclose(ours, reference(image), atol=1e-6)


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    image = tiny.picture(3, (32, 32))
    fitted = replace(IMAGENET, size=32, crop=1.0).fit(image)
    assert np.array_equal(fitted, np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_what_the_network_takes(mode: str) -> None:
    image = tiny.picture(4, (32, 32), "RGB").convert(mode)
    small = replace(IMAGENET, size=32, crop=1.0)
    grey = replace(small, mean=(0.5,), std=(0.25,))
    assert np.array_equal(small.fit(image), np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    assert np.array_equal(grey.fit(image), np.asarray(image.convert("L"))[None])


def test_images_of_sixteen_bits_keep_their_shades() -> None:
    levels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    fitted = replace(IMAGENET, size=32, crop=1.0).fit(Image.fromarray(levels))
    assert np.array_equal(fitted, np.broadcast_to(levels // 256, (3, 32, 32)))


def test_grey_images_become_rgb_for_a_network_of_colours() -> None:
    grey = replace(IMAGENET, mean=(0.5,), std=(0.25,))
    changed = grey.changed(Preprocessing(mean=(0.4, 0.5, 0.6)))
    assert (changed.channels, changed.std) == (3, (0.25, 0.25, 0.25))


def test_normalisation_does_not_depend_on_the_place_in_the_batch() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 5)[:, None, None, :].expand(3, 3, 1, 1280)
    whole = IMAGENET.normalise(pixels.reshape(1, 9, 1, 1280)[:, :3].contiguous())
    for start, length in ((0, 3), (1, 7), (13, 33), (255, 1)):
        part = IMAGENET.normalise(pixels[:1, :, :, start : start + length].contiguous())
        assert torch.equal(part, whole[..., start : start + length])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Preprocessing(mean=(0.5,)), r"mean must have 3 values, got \(0.5,\)"),
        (Preprocessing(std=(0.5, 0.0, 0.5)), "std > 0"),
        (Preprocessing(size=0), "needs size >= 1"),
        (Preprocessing(crop=1.5), "0 < crop <= 1 and std > 0, got size=224, crop=1.5"),
    ],
)
def test_what_no_image_can_have_is_refused(asked: Preprocessing, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        IMAGENET.changed(asked)
