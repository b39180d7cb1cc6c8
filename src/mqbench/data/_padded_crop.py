"""The augmentation of small images: random crop of the zero-padded image, random flip (He et al., 2016)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mqbench.data._draws import Uniforms

NUMBERS = 3
PADDED = 8  # 32 pixels are padded by 4 on each side


def padded_crop(pixels: Tensor, uniforms: Uniforms) -> Tensor:
    """Crop and flip each image of a batch.

    Args:
        pixels: ``[n, C, S, S]``, uint8.
        uniforms: ``[n, 3]`` in [0, 1): top, left, flip.
    """
    size = pixels.shape[-1]
    pad = max(size // PADDED, 1)
    places = 2 * pad + 1
    top, left = (torch.from_numpy((uniforms[:, k] * places).astype("int64")) for k in (0, 1))
    flipped = torch.from_numpy(uniforms[:, 2] < 0.5)
    return crop_and_flip(pixels, pad, top, left, flipped)


def crop_and_flip(pixels: Tensor, pad: int, top: Tensor, left: Tensor, flipped: Tensor) -> Tensor:
    """The window at (top, left) of each zero-padded image, mirrored where ``flipped``; ``[n, C, S, S]``."""
    size, device = pixels.shape[-1], pixels.device
    windows = F.pad(pixels, (pad,) * 4).unfold(2, size, 1).unfold(3, size, 1)
    rows = torch.arange(len(pixels), device=device)
    cropped = windows[rows, :, top.to(device), left.to(device)]
    return torch.where(flipped.to(device)[:, None, None, None], cropped.flip(3), cropped)
