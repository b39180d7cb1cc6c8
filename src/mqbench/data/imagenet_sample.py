"""A sample of ImageNet: 200 training and 300 validation images, one a class, labels of ImageNet-1k."""

from mqbench.data._guess import IMAGENET
from mqbench.data._named import named_dataset

DATASET = named_dataset("imagenet-sample", IMAGENET, classes=1000)
