"""A residual network of five convolutions for 8 x 8 digits: the default study's, small enough for any CPU."""

from torch import Tensor, nn

from mqbench.architectures._base import Architecture, Recipe


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus the (downsampled) input, then ReLU (He et al., 2016)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> [N, width, H/stride, W/stride]."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)


class DigitsResNet(nn.Module):
    """Stem, one block at full and one at half resolution, global average pooling, classifier."""

    def __init__(self, classes: int, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = BasicBlock(width, width, 1)
        self.layer2 = BasicBlock(width, 2 * width, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> logits [N, classes]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.pool(self.layer2(self.layer1(x)))
        return self.fc(x.flatten(1))


ARCHITECTURE = Architecture(
    build=lambda classes, channels: DigitsResNet(classes, channels),
    recipe=Recipe(learning_rate=0.01, weight_decay=1e-4, batch_size=64, epochs=10),
    float_recipe=Recipe(learning_rate=0.1, weight_decay=1e-4, batch_size=64, epochs=20),
)
