"""A residual network of two blocks for 8 x 8 digits: the default study's, small enough for any CPU."""

from mqbench.architectures._base import Architecture, Recipe
from mqbench.architectures._residual import ResidualNet

ARCHITECTURE = Architecture(
    build=lambda classes, channels: ResidualNet(classes, channels, width=16, blocks=(1, 1)),
    recipe=Recipe(learning_rate=0.01, weight_decay=1e-4, batch_size=64, epochs=10),
    float_recipe=Recipe(learning_rate=0.1, weight_decay=1e-4, batch_size=64, epochs=20),
)
