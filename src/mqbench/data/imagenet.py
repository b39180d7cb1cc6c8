"""ImageNet-1k: 1.28 million training and 50,000 validation images in 1,000 classes (Russakovsky et al., 2015).

``imagenet/`` is a datasets repository (parquet) or the tree that people have, ``train/<wnid>/*.JPEG`` and
``val/<wnid>/*.JPEG``; the classes are in the order of the wnids either way.
"""

from mqbench.data._guess import IMAGENET
from mqbench.data._named import named_dataset

DATASET = named_dataset(
    "imagenet", IMAGENET, classes=1000, hub="ILSVRC/imagenet-1k", images=(1_281_167, 50_000)
)
