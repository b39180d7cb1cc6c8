"""Converted networks for the tests of this folder."""

from typing import Any

import torch
from torch import Tensor, fx, nn

import mqbench
from networks import Basic, Concat, Inverted, Net, SqueezeExcite, conv_bn, images, trained

SETTINGS = ["fbgemm", "snpe", "tvm", "tensorrt", "acl"]
WHOLE = ["fbgemm", "snpe", "tvm"]  # every tensor between layers is quantized


class Pooled(nn.Module):
    """Average pooling over windows that overlap the edge."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(4, 4), conv_bn(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(nn.functional.avg_pool2d(torch.relu(self.a(x)), 3, 2, 1))
        return y


class Halves(nn.Module):
    """A split and a difference."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv_bn(4, 8), conv_bn(4, 4), conv_bn(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.relu(self.a(x)).chunk(2, 1)
        y: Tensor = self.b(first) - self.c(second)
        return y


class Attention(nn.Module):
    """Patches, one attention head, layer normalization, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.qkv, self.mlp, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        x = x + mixed.transpose(1, 2).reshape(batch, tokens, width)
        y: Tensor = self.head((x + nn.functional.gelu(self.mlp(x))).mean(1))
        return y


class Padded(nn.Module):
    """SAME padding as its own operation, as EfficientNet-Lite has it, and a convolution in one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2), nn.Conv1d(4, 4, 3, padding="same")
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(nn.functional.pad(x, (0, 1, 0, 1))))
        y: Tensor = self.fc(nn.functional.relu6(self.b(x.flatten(2))).mean(2))
        return y


NETWORKS: dict[str, type[nn.Module] | Any] = {
    "basic": lambda: Net(Basic(), Basic(4, 4, 2)),
    "inverted": lambda: Net(Inverted()),
    "concat": lambda: Net(Concat()),
    "squeeze": lambda: Net(SqueezeExcite()),
    "pooled": lambda: Net(Pooled()),
    "halves": lambda: Net(Halves()),
    "attention": Attention,
    "padded": Padded,
}


def converted(network: str | nn.Module, backend: str, bits: Any = 8, **options: Any) -> fx.GraphModule:
    """A network with random weights, calibrated on six images and converted."""
    torch.manual_seed(0)  # layer normalization keeps torch's initialisation
    model = trained(NETWORKS[network]()) if isinstance(network, str) else network
    options = {"algorithm": "ptq", **options}
    q = mqbench.prepare(model, images(6), backend=backend, bits=bits, **options)
    mqbench.calibrate(q, [images(6)])
    return mqbench.convert(q)
