"""Quantizers that follow the range of their tensor by a rule instead of learning it."""

from typing import Any

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.errors import CalibrationError, RequestError
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QParams, QuantScheme


def symmetric_reach(scale: Tensor, scheme: QuantScheme) -> Tensor:
    """The largest value that a symmetric scale was made for (the inverse of SPEC section 1's ranges)."""
    return scale * ((scheme.quant_max - scheme.quant_min) / 2 if scheme.signed else scheme.quant_max)


def by_channel(x: Tensor, channel_axis: int | None) -> Tensor:
    """``x`` as ``[channels, elements]``; as ``[elements]`` if per-tensor.

    Raises:
        RequestError: ``x`` has no such axis.
    """
    if channel_axis is None:
        return x.flatten()
    if not -x.dim() <= channel_axis < x.dim():
        raise RequestError(
            f"channel axis {channel_axis} does not exist in a tensor of shape {tuple(x.shape)}"
        )
    return x.movedim(channel_axis, 0).flatten(1)


def std_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation (ddof 1) and mean along the last axis; a single value has a deviation of 0."""
    std, mean = torch.std_mean(rows, dim=-1, correction=min(1, rows.shape[-1] - 1))
    return std, mean


class RangeQuantizer(FakeQuantize):
    """Scale and zero point follow a stored range ``[range_min, range_max]`` (SPEC section 1)."""

    range_min: Tensor
    range_max: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("range_min", torch.zeros(self.parameter_shape()))
        self.register_buffer("range_max", torch.zeros(self.parameter_shape()))

    def qparams(self) -> QParams:
        return F.range_to_qparams(self.range_min, self.range_max, self.scheme)

    def fake_quantize(self, x: Tensor) -> Tensor:
        x = self.transform(x)
        self.refresh(x.detach())
        scale, zero_point = self._broadcast_qparams(x)
        return self.straight_through(x, scale, zero_point)

    def straight_through(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """Eq. 1 with the gradient estimator of the algorithm."""
        return F.fake_quantize(x, scale, zero_point, *self.integer_range())

    def set_range(self, lo: Tensor, hi: Tensor) -> None:
        """Store a range; the buffers stay the same objects unless the number of channels changes."""
        if lo.shape != self.range_min.shape:
            self.range_min, self.range_max = (b.new_empty(lo.shape) for b in (self.range_min, self.range_max))
        with torch.no_grad():
            self.range_min.copy_(lo)
            self.range_max.copy_(hi)

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:
        scheme = self.scheme
        if scheme.symmetric:
            hi = symmetric_reach(qparams.scale, scheme)
            self.set_range(-hi if scheme.signed else torch.zeros_like(hi), hi)
            return
        self.set_range(
            (scheme.quant_min - qparams.zero_point) * qparams.scale,
            (scheme.quant_max - qparams.zero_point) * qparams.scale,
        )


class WeightRange(RangeQuantizer):
    """The range is recomputed from the weight at every step; there is nothing to calibrate."""

    needs_calibration = False
    uses_observer = False

    def weight_range(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Range of a (transformed) weight, 0-d or ``[channels]``; by default its minimum and maximum."""
        if self.channel_axis is None:
            lo, hi = torch.aminmax(w)
            return lo, hi
        return torch.aminmax(by_channel(w, self.channel_axis), dim=1)

    def refresh(self, x: Tensor) -> None:
        self.set_range(*self.weight_range(x))

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:
        self.set_range(observer.minimum, observer.maximum)


class MovingRange(RangeQuantizer):
    """The range is an exponential moving average over batches, frozen in eval mode.

    new = 0.9 old + 0.1 batch; the first batch is copied.
    """

    momentum = 0.9

    def batch_range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Range of one batch (0-d tensors); by default its minimum and maximum."""
        lo, hi = torch.aminmax(x)
        return lo, hi

    def begin_calibration(self, observer: str | None = None, name: str = "this quantizer") -> None:
        super().begin_calibration(observer, name)
        self._average: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take one more batch; by default the moving average itself is what is calibrated."""
        super().observe(x)
        if not self._own:
            return
        batch = self.batch_range(x)
        if self._average is None:
            self._average = batch
        else:
            self._average = self._moved(self._average, batch)

    def refresh(self, x: Tensor) -> None:
        pass

    def fake_quantize(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                if x.numel() == 0:
                    raise CalibrationError("an empty batch has no range")
                self.set_range(*self._moved((self.range_min, self.range_max), self.batch_range(x.detach())))
        return super().fake_quantize(x)

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:
        if not own:
            super().apply_qparams(qparams, observer, own=own)
        elif self._average is not None:
            self.set_range(*self._average)

    def _moved(self, old: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        lo, hi = (o.lerp(b.to(o), 1 - self.momentum) for o, b in zip(old, batch, strict=True))
        return lo, hi
