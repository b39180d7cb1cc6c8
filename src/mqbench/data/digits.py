"""Digits: 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn (UCI, Alpaydin and Kaynak).

The last 500 images are the test set: the file is in the order of collection, so that a random split
would test on the hands that were trained on.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mqbench.data._base import Dataset, Facts, Preprocessing, Splits, TensorSplit

TRAIN_IMAGES, TEST_IMAGES = 1297, 500
SIZE = 8


def _open(folder: str | None, preprocessing: Preprocessing) -> Splits:
    pixels, labels = _read()
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, SIZE, SIZE)
    train, test = images[:-TEST_IMAGES], images[-TEST_IMAGES:]
    mean, std = train.mean(), train.std()
    y = torch.tensor(labels, dtype=torch.int64)
    return Splits(
        TensorSplit((train - mean) / std, y[:-TEST_IMAGES]),
        TensorSplit((test - mean) / std, y[-TEST_IMAGES:]),
        classes=10,
        image_shape=(1, SIZE, SIZE),
        fingerprint=hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()[:16],
    )


@cache
def _read() -> tuple[Any, Any]:
    """Pixels and labels; read once in a process, which may make thousands of short runs.

    To import scikit-learn takes two seconds, to read its file a hundredth of one.
    """
    found = find_spec("sklearn")
    file = Path((found and found.origin) or "", "..", "datasets", "data", "digits.csv.gz").resolve()
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1].astype(int)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


FACTS = Facts(train_images=TRAIN_IMAGES, test_images=TEST_IMAGES, classes=10, image_shape=(1, SIZE, SIZE))
DATASET = Dataset(open=_open, facts=FACTS)
