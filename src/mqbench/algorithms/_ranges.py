"""Quantizers that follow the range of their tensor by a rule instead of learning it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.errors import CalibrationError, RequestError
from mqbench.fused.definition import NOTHING, Before
from mqbench.fused.elementwise import Elementwise
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


class RangeQuantizer(FakeQuantize):
    """Scale and zero point follow a stored range ``[range_min, range_max]`` (SPEC section 1)."""

    estimator: ClassVar[Elementwise] = F.STRAIGHT_THROUGH
    """Eq. 1 with the gradient of the algorithm."""

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
        return self.estimate(x, *self._scale_and_zero_point(x.dtype))

    def _scale_and_zero_point(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        qparams = self.qparams()
        return qparams.scale.to(dtype), None if self.scheme.symmetric else qparams.zero_point.to(dtype)

    def estimate(self, x: F.Incoming, scale: Tensor, zero_point: Tensor | None) -> Tensor:
        """Eq. 1 with the gradient estimator of the algorithm: by default `estimator`."""
        parameters = self.estimator_parameters(scale, zero_point)
        return F.apply(self.estimator, x, parameters, self.integer_range(), axis=self.channel_axis)

    def estimator_parameters(self, scale: Tensor, zero_point: Tensor | None) -> tuple[Tensor | None, ...]:
        """What `estimator` takes, in the type of the data; its scalars are the ends of the grid."""
        return scale, zero_point

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

    per_sample: ClassVar[bool] = False
    """A batch's range is the mean over its samples' ranges instead of their extremes."""

    def batch_range(self, x: Tensor, before: Before = NOTHING) -> tuple[Tensor, Tensor]:
        """Range (0-d tensors) of what a batch becomes by ``before``, which keeps the order in each channel."""
        if before.affine is not None:
            lo, hi = (r.view(x.shape[:2]) for r in row_ranges(x.flatten(0, 1).flatten(1)))
            lo, hi = before.affine(lo), before.affine(hi)
            lo, hi = torch.minimum(lo, hi).amin(1), torch.maximum(lo, hi).amax(1)
        else:
            lo, hi = row_ranges(x.reshape(x.shape[0] if self.per_sample and x.dim() else 1, -1))
        if before.clip is not None:
            lo, hi = (r.clamp(before.clip.lower, before.clip.upper) for r in (lo, hi))
        return (lo.mean(), hi.mean()) if self.per_sample else (lo.amin(), hi.amax())

    def begin_calibration(self, observer: str | None = None, name: str = "this quantizer") -> None:
        super().begin_calibration(observer, name)
        self._average: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take one more batch; by default the moving average itself is what is calibrated."""
        super().observe(x)
        if self._observation is None or not self._observation.own:
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
        own = type(self).estimate is RangeQuantizer.estimate and not torch.compiler.is_compiling()
        if x.norm is not None and self.training and own:
            return F.apply(_AfterItsRange(self), x, (), self.integer_range())
        x = x.with_norm()
        if self.training:
            self.follow(x.tensor, Before(clip=x.clip))
        return self._with_range(x)

    @torch.no_grad()
    def follow(self, x: Tensor, before: Before) -> None:
        """Move the range towards that of a batch."""
        if x.numel() == 0:
            raise CalibrationError("an empty batch has no range")
        batch = self.joint_range(*self.batch_range(x.detach(), before))
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


class _AfterItsRange:
    """The estimator behind a batch norm that is computed in its pass: the range is followed once the norm is known."""

    def __init__(self, quantizer: MovingRange) -> None:
        self._quantizer, self._estimator = quantizer, quantizer.estimator
        self._found: tuple[Tensor | None, ...] = ()

    def forward(
        self,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        before: Before = NOTHING,
    ) -> Tensor:
        """As `Elementwise.forward`."""
        self._quantizer.follow(x, before)
        found = self._quantizer._scale_and_zero_point(x.dtype)
        self._found = self._quantizer.estimator_parameters(*found)
        return self._estimator.forward(x, self._found, scalars, axis=axis, before=before)

    def backward(
        self,
        gradient: Tensor,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        before: Before = NOTHING,
    ) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
        """As `Elementwise.backward`; a range has no gradient."""
        dx, ahead, _ = self._estimator.backward(gradient, x, self._found, scalars, axis=axis, before=before)
        return dx, ahead, []
