"""ImageNet: the real sample, where it is; the tree as people have it, in miniature."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from mqbench.data._base import Preprocessing
from mqbench.data.imagenet import DATASET
from mqbench.data.imagenet_sample import DATASET as SAMPLE
from mqbench.errors import RequestError

FOLDER = os.environ.get("MQBENCH_DATA", "")
real = pytest.mark.skipif(
    not Path(FOLDER, "imagenet-sample").is_dir(), reason="MQBENCH_DATA has no imagenet-sample"
)


@real
def test_the_sample() -> None:
    """One image a class of the even classes, normalised: in the mean of the split near 0 and 1."""
    splits = SAMPLE.open(FOLDER, Preprocessing())
    assert (len(splits.train), len(splits.test), splits.classes) == (200, 300, 1000)
    images, labels = zip(*splits.test.batches(splits.test.in_order(64)), strict=True)
    assert torch.cat(labels).unique().numel() == 300
    assert (torch.cat(labels) % 2 == 0).all()
    assert torch.cat(images).shape == (300, 3, 224, 224)
    assert torch.cat(images).mean().abs() < 0.25
    assert abs(float(torch.cat(images).std()) - 1) < 0.25


@real
def test_the_sample_augmented() -> None:
    train = SAMPLE.open(FOLDER, Preprocessing(size=96, interpolation="bicubic")).train
    order = torch.randperm(200)[:24]
    (images, _), *_ = train.batches([order], augment=2)
    again = torch.cat([x for x, _ in train.batches(order.split(5), augment=2)])
    assert images.shape == (24, 3, 96, 96)
    assert torch.equal(again, images)


def test_the_tree(tmp_path: Path, cache: Path) -> None:
    """1,000 folders of wnids are classes 0 to 999 in the order of names; fewer are not ImageNet."""
    picture = tiny.encoded(tiny.picture(0, (40, 30)), "JPEG")
    names = [f"n{k:08d}" for k in np.random.default_rng(0).permutation(10_000)[:1000]]
    for split in ("train", "val"):
        for name in names:
            path = tmp_path / "imagenet" / split / name / f"{name}_1.JPEG"
            path.parent.mkdir(parents=True)
            path.write_bytes(picture)
    splits = DATASET.open(str(tmp_path), Preprocessing(size=8))
    assert (len(splits.train), splits.classes, splits.image_shape) == (1000, 1000, (3, 8, 8))
    _, labels = next(splits.test.batches([torch.tensor([0, 999])]))
    assert labels.tolist() == [0, 999]
    for split in ("train", "val"):
        folder = tmp_path / "imagenet" / split / names[0]
        next(folder.iterdir()).unlink()
        folder.rmdir()
    with pytest.raises(RequestError, match=r"must have 1000 classes, it has 999.*folder:PATH"):
        DATASET.open(str(tmp_path), Preprocessing(size=8))
