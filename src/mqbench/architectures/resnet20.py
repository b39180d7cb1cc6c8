"""ResNet-20 for 32 x 32 images (He et al., 2016, section 4.2), with convolutions as shortcuts.

The original's shortcut is the identity with zero channels, which has nothing to quantize; the 1 x 1
convolution of the ImageNet networks is what the benchmark's graphs are about.
"""

from mqbench.architectures._base import Architecture, Recipe
from mqbench.architectures._residual import ResidualNet

ARCHITECTURE = Architecture(
    build=lambda classes, channels: ResidualNet(classes, channels, width=16, blocks=(3, 3, 3)),
    recipe=Recipe(learning_rate=0.01, weight_decay=1e-4, batch_size=128, epochs=100),
    float_recipe=Recipe(learning_rate=0.1, weight_decay=5e-4, batch_size=128, epochs=100),
)
