"""Small networks with the block structures of the paper's Fig. 4, 13 and 14."""

import torch
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Basic(nn.Module):
    def __init__(self, inputs: int = 4, outputs: int = 4, stride: int = 1) -> None:
        super().__init__()
        self.a = conv_bn(inputs, outputs, stride=stride)
        self.b = conv_bn(outputs, outputs)
        self.down = conv_bn(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.down is None else self.down(x)  # before the main branch, on purpose
        return torch.relu(self.b(torch.relu(self.a(x))) + shortcut)


class Inverted(nn.Module):
    def __init__(self, inputs: int = 4, outputs: int = 4) -> None:
        super().__init__()
        self.expand = conv_bn(inputs, 8, 1)
        self.depthwise = conv_bn(8, 8, groups=8)
        self.project = conv_bn(8, outputs, 1)
        self.shortcut = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self.expand(x))
        y = self.project(nn.functional.relu6(self.depthwise(y)))
        return x + y if self.shortcut else y


class Dropped(Basic):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.2, self.training)


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(4, 4), conv_bn(4, 4, 1), conv_bn(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.a(x))
        b = torch.relu(self.b(x))
        return torch.relu(self.c(torch.cat([a, b, nn.functional.max_pool2d(x, 3, 1, 1)], 1)))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_bn(4, 4)
        self.reduce, self.expand = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.conv(x))
        gate = self.expand(torch.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class Net(nn.Module):
    """Stem, blocks, global average pooling, classifier."""

    def __init__(self, *blocks: nn.Module, channels: int = 4) -> None:
        super().__init__()
        self.stem = conv_bn(3, 4)
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.stem(x)), 2)
        return self.fc(self.blocks(x).mean((2, 3)))


def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and running statistic from ``seed``, away from the initial values."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            module.weight.data = torch.randn(module.weight.shape, generator=generator) * fan_in**-0.5
            if module.bias is not None:
                module.bias.data = torch.randn(len(module.bias), generator=generator) * 0.2
        if isinstance(module, nn.BatchNorm2d):
            shape = (module.num_features,)
            module.weight.data = 0.5 + torch.rand(shape, generator=generator)
            module.bias.data = torch.randn(shape, generator=generator) * 0.2
            module.running_mean = torch.randn(shape, generator=generator) * 0.2
            module.running_var = 0.5 + torch.rand(shape, generator=generator)
    return net.eval()


def images(count: int = 4, seed: int = 1, size: int = 12) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
