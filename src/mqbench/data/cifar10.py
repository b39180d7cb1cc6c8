"""CIFAR-10: 60,000 images of 32 x 32 pixels in 10 classes (Krizhevsky, 2009)."""

from mqbench.data._named import named_dataset
from mqbench.data._transform import Transform

TRANSFORM = Transform(
    size=32,
    crop=1.0,
    interpolation="bilinear",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    augmentation="padded_crop",
)

DATASET = named_dataset("cifar10", TRANSFORM, classes=10, hub="uoft-cs/cifar10", images=(50_000, 10_000))
