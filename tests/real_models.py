"""The networks of timm and torchvision that must go through: whole, and cut down to a block or two a stage."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

# name -> (edge of the image, options of a cut-down network with the same blocks; None leaves it whole)
MODELS: dict[str, tuple[int, dict[str, Any] | None]] = {
    "resnet18": (64, {"layers": (1, 1, 1, 1)}),
    "resnet50": (64, {"layers": (1, 1, 1, 1)}),
    "mobilenetv2_100": (64, None),
    "efficientnet_lite0": (64, None),
    "tf_efficientnet_lite0": (64, None),
    "regnetx_006": (64, None),
    "vgg11_bn": (64, None),
    "inception_v3": (96, None),
    "densenet121": (64, {"block_config": (2, 2, 2)}),
    "mobilenetv3_small_050": (64, {}),
    "efficientnet_b0": (64, None),
    "convnext_atto": (64, {"depths": (1, 1, 1, 1)}),
    "vit_tiny_patch16_224": (224, {"depth": 2, "img_size": 64}),
    "deit_tiny_patch16_224": (224, None),
    "swin_tiny_patch4_window7_224": (224, {"depths": (2, 2), "num_heads": (3, 6), "img_size": 64, "window_size": 4}),
    "repvgg_a0": (64, None),
    "ghostnet_100": (64, None),
    "mobilenetv4_conv_small": (64, None),
    "hardcorenas_a": (64, None),
    "dla34": (64, None),
    "hrnet_w18_small": (64, None),
    "resnext50_32x4d": (64, None),
    "xception41": (64, None),
    "torchvision/googlenet": (64, None),
    "torchvision/shufflenet_v2_x1_0": (64, {"stages_repeats": [2, 2, 2]}),
}  # fmt: skip
CUT = [name for name, (_, options) in MODELS.items() if options is not None]


def make(name: str, *, cut: bool = False) -> tuple[nn.Module, Tensor]:
    """A model with random weights in eval mode, and two images for it."""
    size, options = MODELS[name]
    options = (options or {}) if cut else {}
    torch.manual_seed(0)
    x = torch.randn(2, 3, options.get("img_size", size), options.get("img_size", size))
    library, _, plain = name.rpartition("/")
    if library:
        models = pytest.importorskip("torchvision.models")
        if plain == "googlenet":
            options = {"init_weights": True, "aux_logits": False}
        if "stages_repeats" in options:
            return models.ShuffleNetV2(**options, stages_out_channels=[8, 16, 32, 64, 128]).eval(), x
        return models.get_model(plain, weights=None, **options).eval(), x
    return pytest.importorskip("timm").create_model(name, **options).eval(), x
