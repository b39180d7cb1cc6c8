"""Digits: 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn (UCI, Alpaydin and Kaynak).

The last 500 images are the test set: the file is in the order of collection, so that a random split
would test on the hands that were trained on.
"""

import torch
from sklearn.datasets import load_digits

from mqbench.data._base import Dataset, Split, Splits

TEST_IMAGES = 500


def _load(folder: str | None) -> Splits:
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8)
    train, test = images[:-TEST_IMAGES], images[-TEST_IMAGES:]
    mean, std = train.mean(), train.std()
    y = torch.tensor(labels, dtype=torch.int64)
    return Splits(
        Split((train - mean) / std, y[:-TEST_IMAGES]),
        Split((test - mean) / std, y[-TEST_IMAGES:]),
        classes=10,
    )


DATASET = Dataset(load=_load, classes=10, image_shape=(1, 8, 8))
