"""RegNetX-600MF (Radosavovic et al., 2020) with the paper's recipe (Table 3; its code has L2 1e-4)."""

from mqbench.architectures._base import Recipe
from mqbench.architectures._timm import timm_architecture

ARCHITECTURE = timm_architecture(
    "regnetx_006",
    recipe=Recipe(learning_rate=0.004, weight_decay=4e-5, batch_size=32, devices=16),
)
