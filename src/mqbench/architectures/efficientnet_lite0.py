"""EfficientNet-Lite0 (Liu, 2020) with the paper's recipe (Table 3); batch norms do not decay."""

from mqbench.architectures._base import Recipe
from mqbench.architectures._open import timm_architecture

ARCHITECTURE = timm_architecture(
    "efficientnet_lite0",
    recipe=Recipe(learning_rate=0.01, weight_decay=1e-5, batch_size=32, devices=16, decay_batch_norm=False),
)
