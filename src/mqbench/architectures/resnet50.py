"""ResNet-50 (He et al., 2016) with the paper's recipe (Table 3)."""

from mqbench.architectures._base import Recipe
from mqbench.architectures._timm import timm_architecture

ARCHITECTURE = timm_architecture(
    "resnet50",
    recipe=Recipe(learning_rate=0.004, weight_decay=1e-4, batch_size=16, devices=16),
)
