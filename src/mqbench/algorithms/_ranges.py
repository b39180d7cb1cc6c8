"""Quantizers that follow the range of their tensor by a rule instead of learning it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.errors import CalibrationError, RequestError
from mqbench.fused.activation import Clip
from mqbench.observers._base import Observer
from mqbench.observers._moments import Kind, summarise
from mqbench.processes import greatest_of_all, least_of_all
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
    return x.movedim(channel_axis, 0).reshape(x.shape[channel_axis], -1)


def std_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation (ddof 1) and mean along the last axis; a single value has a deviation of 0."""
    std, mean = torch.std_mean(rows, dim=-1, correction=min(1, rows.shape[-1] - 1))
    return std, mean


def row_ranges(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of each row of ``[rows, elements]``; NaN and infinity count as torch has it."""
    found = summarise(rows.detach(), Kind.RANGE) if rows.numel() else None
    if found is None or bool(found.lo.isnan().any()):
        lo, hi = torch.aminmax(rows, dim=1)
        return lo, hi
    return found.lo, found.hi


def row_std_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """`std_mean` of ``[elements]`` or ``[channels, elements]`` without gradients, by the observers' one pass."""
    found = summarise(rows.detach().reshape(-1, rows.shape[-1]), Kind.MOMENTS) if rows.numel() else None
    if found is None or bool(found.lo.isnan().any()):
        return std_mean(rows)
    std = (found.square / max(rows.shape[-1] - 1, 1)).sqrt()
    shape = rows.shape[:-1]
    return std.to(rows.dtype).reshape(shape), found.first.to(rows.dtype).reshape(shape)


def clipped_range(ends: Sequence[Tensor], clip: Clip | None) -> tuple[Tensor, Tensor]:
    """The range of a tensor after a clip, from the range before: clipping keeps the order."""
    lo, hi = ends
    if clip is None:
        return lo, hi
    return lo.clamp(clip.lower, clip.upper), hi.clamp(clip.lower, clip.upper)


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
        return self._with_range(F.Incoming(x))

    def _with_range(self, x: F.Incoming) -> Tensor:
        qparams = self.qparams()
        zero_point = None if self.scheme.symmetric else qparams.zero_point.to(x.dtype)
        return self.estimate(x, qparams.scale.to(x.dtype), zero_point)

    def estimate(self, x: F.Incoming, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        """Eq. 1 with the gradient estimator of the algorithm; by default straight through."""
        return F.fake_quantize(x, scale, zero_point, *self.integer_range(), axis=self.channel_axis)

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
            lo, hi = row_ranges(w.reshape(1, -1))
            return lo[0], hi[0]
        return row_ranges(by_channel(w, self.channel_axis))

    def refresh(self, x: Tensor) -> None:
        self.set_range(*self.weight_range(x))

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:
        self.set_range(observer.minimum, observer.maximum)


class MovingRange(RangeQuantizer):
    """The range is an exponential moving average over batches, frozen in eval mode.

    new = 0.9 old + 0.1 batch; the first batch is copied.
    """

    momentum = 0.9

    def batch_range(self, x: Tensor, clip: Clip | None = None) -> tuple[Tensor, Tensor]:
        """Range of one batch (0-d tensors), clipped first if so asked; by default its minimum and maximum."""
        lo, hi = clipped_range(row_ranges(x.reshape(1, -1)), clip)
        return lo[0], hi[0]

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
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:
        x = x.with_norm()  # the range is that of its result
        self._follow(x)
        return self._with_range(x)

    @torch.no_grad()
    def _follow(self, x: F.Incoming) -> None:
        if self.training:
            if x.numel() == 0:
                raise CalibrationError("an empty batch has no range")
            batch = self.joint_range(*self.batch_range(x.tensor.detach(), x.clip))
            self.set_range(*self._moved((self.range_min, self.range_max), batch))

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:
        if not own:
            super().apply_qparams(qparams, observer, own=own)
        elif self._average is not None:
            self.set_range(*self._average)

    def joint_range(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """The range of the batches of all processes, from that of one."""
        return least_of_all(lo), greatest_of_all(hi)

    def _moved(self, old: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        lo, hi = (o.lerp(b.to(o), 1 - self.momentum) for o, b in zip(old, batch, strict=True))
        return lo, hi
