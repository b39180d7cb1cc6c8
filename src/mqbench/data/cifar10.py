"""CIFAR-10: 60,000 images of 32 x 32 pixels in 10 classes (Krizhevsky, 2009)."""

from mqbench.data._base import Dataset, Preprocessing, Splits
from mqbench.data._images import Images
from mqbench.data._named import named_source
from mqbench.data._transform import Transform

TRANSFORM = Transform(
    size=32,
    crop=1.0,
    interpolation="bilinear",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    augmentation="padded_crop",
)


def _images(folder: str | None) -> Images:
    return Images(
        source=named_source("cifar10", folder, hub="uoft-cs/cifar10"), transform=TRANSFORM, classes=10
    )


def _open(folder: str | None, preprocessing: Preprocessing) -> Splits:
    return _images(folder).open(preprocessing)


DATASET = Dataset(open=_open, check=lambda folder: _images(folder).source.check())
