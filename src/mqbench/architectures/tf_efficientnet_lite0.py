"""EfficientNet-Lite0 as TensorFlow computes it (SAME padding), which its published weights are for."""

from mqbench.architectures._base import MOBILE_FLOAT_RECIPE, MOBILE_RECIPE
from mqbench.architectures._timm import timm_architecture

ARCHITECTURE = timm_architecture("tf_efficientnet_lite0", MOBILE_RECIPE, MOBILE_FLOAT_RECIPE)
