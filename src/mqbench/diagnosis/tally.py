"""What one quantizer does to the values that reach it: noise, clipping, unused levels, dead channels."""

import math
from typing import Any

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.algorithms._levels import LevelQuantizer
from mqbench.conversion import DeployedQuantizer
from mqbench.diagnosis.probe import Point
from mqbench.layers import DeployedLayer
from mqbench.observation import at_least_float
from mqbench.quantizer import FakeQuantize


def decibels(signal: float, noise: float) -> float | None:
    """Signal-to-quantization-noise ratio in dB: infinite without noise, None without a signal."""
    if signal <= 0:
        return None
    return math.inf if noise <= 0 else 10 * math.log10(signal / noise)


class Likeness:
    """SQNR and cosine of two tensors over many batches."""

    def __init__(self) -> None:
        self.signal = self.noise = self.product = self.found = 0.0

    def add(self, reference: Tensor, found: Tensor) -> None:
        """Take one more pair of tensors."""
        reference, found = reference.detach().double(), found.detach().double()
        self.signal += float(reference.square().sum())
        self.noise += float((found - reference).square().sum())
        self.product += float((found * reference).sum())
        self.found += float(found.square().sum())

    @property
    def sqnr_db(self) -> float | None:
        """10 log10 of signal power over noise power."""
        return decibels(self.signal, self.noise)

    @property
    def cosine(self) -> float | None:
        """Of the angle between the two; None if one of them is zero."""
        norms = math.sqrt(self.signal) * math.sqrt(self.found)
        return self.product / norms if norms else None


class Tally:
    """Statistics of one quantizer, over all values that it is given.

    Args:
        point: the quantizer.
    """

    def __init__(self, point: Point) -> None:
        self.point = point
        self.likeness = Likeness()
        self.clip_noise = 0.0
        self.count = self.clipped = 0
        self.channel_peaks: dict[object, Tensor] = {}  # of each tensor: those of a concat differ in channels
        self.levels: Tensor | None = None

    @torch.no_grad()
    def add(self, x: Tensor, tensor: object = None) -> None:
        """Take one more batch of a tensor that the quantizer is given; ``tensor`` says which, if it has several."""
        module: Any = self.point.module
        x = at_least_float(x)
        y, q = module(x), module.quantize(x)
        reference = module.transform(x) if isinstance(module, FakeQuantize) else x
        low, high = _ends(module, reference)
        outside = (reference < low) | (reference > high)
        self.likeness.add(reference, y)
        self.clip_noise += float(((y - reference) * outside).double().square().sum())
        self.count += x.numel()
        self.clipped += int(outside.sum())
        self._see(y, q, tensor)

    def add_integers(self, layer: DeployedLayer) -> None:
        """Take the weight of a converted layer, which is known as integers only."""
        self.count += layer.weight_integers.numel()
        self._see(layer.weight, layer.weight_integers.to(torch.int32), None)

    def row(self) -> dict[str, Any]:
        """The statistics, by the names of `diagnose`'s columns."""
        assert self.levels is not None
        peaks = torch.cat(list(self.channel_peaks.values()))
        known = self.point.removable and self.count > 0
        used = self.levels.nonzero().flatten()
        share = self.levels[used].double() / self.levels.sum()
        noise = self.likeness.noise
        return {
            "sqnr_db": self.likeness.sqnr_db if known else None,
            "cosine": self.likeness.cosine if known else None,
            "clipped_percent": 100 * self.clipped / self.count if known else None,
            "clipping_noise_percent": 100 * self.clip_noise / noise if known and noise else None,
            "range_used_percent": 100 * float(used[-1] - used[0]) / (len(self.levels) - 1),
            "effective_bits": float(-(share * share.log2()).sum()) + 0.0,
            "channels": len(peaks),
            "dead_channels": int((peaks == 0).sum()),
            "channel_spread": _spread(peaks),
        }

    def _see(self, y: Tensor, q: Tensor, tensor: object) -> None:
        if y.dim() > 1:
            axis = 0 if self.point.role == "weight" else (-1 if y.dim() == 3 else 1)
            peak = y.abs().movedim(axis, 0).flatten(1).amax(1)
        else:
            peak = y.abs()
        before = self.channel_peaks.get(tensor)
        self.channel_peaks[tensor] = peak if before is None else torch.maximum(before, peak)
        low, high = _integers(self.point.module)
        counts = torch.bincount((q - low).flatten().long(), minlength=high - low + 1).cpu()
        self.levels = counts if self.levels is None else self.levels + counts


def _integers(module: Any) -> tuple[int, int]:
    """Smallest and largest integer (or code) of a quantizer or converted layer."""
    if isinstance(module, DeployedQuantizer):
        return module.quant_min, module.quant_max
    if isinstance(module, FakeQuantize):
        return module.integer_range()
    return module.scheme.quant_min, module.scheme.quant_max


def _spread(peaks: Tensor) -> float | None:
    """Largest peak of a channel over the median of those that are not dead."""
    alive = peaks[peaks > 0]
    return float(alive.max() / alive.median()) if len(alive) else None


def _ends(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values below and above which a value is clipped: half a step outside the outer levels."""
    axis = getattr(module, "channel_axis", None)
    if isinstance(module, LevelQuantizer):
        levels = module.levels
        return F.broadcast(levels.amin(-1), x, axis), F.broadcast(levels.amax(-1), x, axis)
    low, high = _integers(module)
    scale, zero_point = (F.broadcast(p, x, axis) for p in (module.scale, module.zero_point))
    return (low - 0.5 - zero_point) * scale, (high + 0.5 - zero_point) * scale
