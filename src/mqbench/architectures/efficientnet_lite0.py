"""EfficientNet-Lite0 (Liu, 2020) with the paper's recipe (Table 3); batch norms do not decay."""

from mqbench.architectures._base import MOBILE_FLOAT_RECIPE, MOBILE_RECIPE
from mqbench.architectures._timm import timm_architecture

ARCHITECTURE = timm_architecture("efficientnet_lite0", MOBILE_RECIPE, MOBILE_FLOAT_RECIPE)
