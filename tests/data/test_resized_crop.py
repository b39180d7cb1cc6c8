"""The paper's ImageNet augmentation: torchvision's operations, and its distributions."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional

import tiny
from mqbench.data._draws import uniforms
from mqbench.data._resized_crop import AREA, NUMBERS, RATIO, Look, look, resized_crop

N = 3000


def looks(height: int, width: int) -> list[Look]:
    return [look(row, height, width) for row in uniforms(11, np.arange(N), NUMBERS)]


def boxes(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(top, left, height, width) of ours and of torchvision's crops."""
    ours = [(a.top, a.left, a.height, a.width) for a in looks(height, width)]
    image = torch.empty(3, height, width)
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(image, list(AREA), list(RATIO)) for _ in range(N)]
    return np.array(ours), np.array(theirs)


def features(box: NDArray[np.int64], height: int, width: int) -> list[NDArray[np.float64]]:
    """Area, ratio, and where the box lies between the edges."""
    top, left, h, w = box.T
    return [1.0 * h * w, w / h, (top + 0.5) / (height - h + 1), (left + 0.5) / (width - w + 1)]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (256, 256)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    ours, theirs = boxes(height, width)
    for mine, wanted in zip(features(ours, height, width), features(theirs, height, width), strict=True):
        assert ks_2samp(mine, wanted).pvalue > 1e-4
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()


@pytest.mark.parametrize(("height", "width"), [(2, 400), (400, 2), (1, 1)])
def test_where_no_crop_fits(height: int, width: int) -> None:
    """The centre with the nearest ratio, as torchvision takes it."""
    ours, theirs = boxes(height, width)
    assert np.unique(ours, axis=0).tolist() == np.unique(theirs, axis=0).tolist()


def test_flips_and_jitter_are_distributed_as_torchvisions() -> None:
    ours = looks(300, 300)
    assert abs(np.mean([a.flip for a in ours]) - 0.5) < 5 * 0.5 / np.sqrt(N)
    torch.manual_seed(0)
    jitter = ColorJitter(0.2, 0.2, 0.2, 0.1)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = [ColorJitter.get_params(*ranges) for _ in range(N)]
    for k in range(4):
        factors = [float(a[1 + k]) for a in theirs]
        assert ks_2samp([a.factors[k] for a in ours], factors).pvalue > 1e-4
    orders, counts = np.unique([a.order for a in ours], axis=0, return_counts=True)
    assert len(orders) == 24
    assert ((counts - N / 24) ** 2 / (N / 24)).sum() < 63  # chi-squared, 23 degrees: p = 1e-5


def test_numbers_are_independent() -> None:
    """No number of a row serves twice: area, place, flip and jitter of a look are uncorrelated."""
    ours = looks(400, 400)
    columns = [[a.height * a.width, a.top / (401 - a.height), a.flip, *a.factors, a.order[0]] for a in ours]
    correlation = np.corrcoef(np.array(columns, dtype=float).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5 / np.sqrt(N)


@pytest.mark.parametrize("flip", [False, True])
def test_pixels_are_torchvisions_for_a_look(flip: bool) -> None:
    image = tiny.picture(5, (200, 150))
    chosen = Look(
        top=10, left=20, height=90, width=110, flip=flip, order=(3, 1, 0, 2), factors=(1.1, 0.9, 1.2, -0.05)
    )
    wanted = functional.resized_crop(image, 10, 20, 90, 110, [64, 64], InterpolationMode.BICUBIC)
    wanted = functional.hflip(wanted) if flip else wanted
    wanted = functional.adjust_contrast(functional.adjust_hue(wanted, -0.05), 0.9)
    wanted = functional.adjust_saturation(functional.adjust_brightness(wanted, 1.1), 1.2)
    assert np.array_equal(np.asarray(resized_crop(image, chosen, 64, "bicubic")), np.asarray(wanted))
