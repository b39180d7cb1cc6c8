"""The real CIFAR-10, where it is."""

import os
from pathlib import Path

import pytest
import torch

from mqbench.data._base import Preprocessing
from mqbench.data._memory import MemorySplit
from mqbench.data.cifar10 import DATASET
from mqbench.errors import RequestError

FOLDER = os.environ.get("MQBENCH_DATA", "")
real = pytest.mark.skipif(not Path(FOLDER, "cifar10").is_dir(), reason="MQBENCH_DATA has no cifar10")


@real
def test_it_is_cifar10() -> None:
    splits = DATASET.open(FOLDER, Preprocessing())
    assert (len(splits.train), len(splits.test), splits.classes) == (50_000, 10_000, 10)
    assert splits.image_shape == (3, 32, 32)
    assert isinstance(splits.train, MemorySplit)
    assert splits.train.labels.bincount().tolist() == [5000] * 10
    images, _ = next(splits.train.batches([torch.arange(5000)]))
    assert images.mean().abs() < 0.03
    assert abs(float(images.std()) - 1) < 0.03


@real
def test_augmentation_is_of_the_number_and_the_image() -> None:
    train = DATASET.open(FOLDER, Preprocessing()).train
    order = torch.randperm(50_000)[:300]
    (whole, labels), *_ = train.batches([order], augment=5)
    parts = list(train.batches(order.flip(0).split(7), augment=5))
    assert torch.equal(torch.cat([x for x, _ in parts]).flip(0), whole)
    assert torch.equal(torch.cat([y for _, y in parts]).flip(0), labels)
    other = next(train.batches([order], augment=6))[0]
    assert (other != whole).flatten(1).any(1).float().mean() > 0.95


def test_a_folder_without_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"there is no folder {tmp_path}/cifar10"):
        DATASET.check(str(tmp_path))
