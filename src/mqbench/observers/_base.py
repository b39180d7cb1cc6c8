"""What every observer does: check the data, follow its range, and hand it to the method in pieces.

A method sees its data as ``[channels, values]`` (one row when it is per tensor), never per batch: what
it keeps must make the result that of the concatenated data.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from mqbench.errors import CalibrationError, RequestError
from mqbench.observers._statistic import Statistic, scan
from mqbench.scheme import QParams, QuantScheme

LIMIT = 1e14
"""Squares of values up to here can be summed in float32, over any tensor."""


class Observer(ABC):
    """From calibration data to a scale and a zero point.

    ``observe`` may be called any number of times; the result equals that on the concatenated data, in
    any order. Memory does not grow with the data. ``scheme`` may be replaced between the last
    ``observe`` and ``qparams`` (the range decides whether it is signed). Statistics are kept on the
    data's device; the scale has the data's type, float32 for a half type.

    Args:
        scheme: the grid to fit.
        channel_axis: the axis that keeps one scale an index; None for one scale in all. The axis
            decides, not ``scheme.per_channel``, which must only not ask for channels without one.

    Raises:
        RequestError: a per-channel scheme without a channel axis.
    """

    def __init__(self, scheme: QuantScheme, *, channel_axis: int | None = None) -> None:
        if scheme.per_channel and channel_axis is None:
            raise RequestError("a per-channel scheme needs a channel_axis, got None")
        self.scheme = scheme
        self.channel_axis = channel_axis
        self.count = 0
        """Values seen so far, for each channel."""
        self._lo: Tensor | None = None
        self._hi: Tensor | None = None
        self._statistic: Any = None

    @property
    def minimum(self) -> Tensor:
        """Smallest value seen, 0-d or ``[channels]``."""
        return self._shaped(self._seen()[0])

    @property
    def maximum(self) -> Tensor:
        """Largest value seen, 0-d or ``[channels]``."""
        return self._shaped(self._seen()[1])

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take in one batch; nothing changes if it is refused.

        Raises:
            RequestError: not a floating-point tensor, or without the channel axis.
            CalibrationError: no values, NaN or infinity, values beyond `LIMIT`, or another number of
                channels than before.
        """
        rows = self._rows(x)
        if self._lo is not None and len(rows) != len(self._lo):
            raise CalibrationError(f"channels changed from {len(self._lo)} to {len(rows)} between batches")
        statistic = self._fresh(rows)
        found = scan(rows, statistic)
        if found is None:
            raise CalibrationError("calibration data must be finite, got NaN or infinity")
        lo, hi = found
        reach = max(-float(lo.min()), float(hi.max()))
        if reach > LIMIT:
            raise CalibrationError(f"calibration data must lie within +-{LIMIT:.0e}, got {reach:.3g}")
        if self._lo is None or self._hi is None:
            self._lo, self._hi, self._statistic = lo, hi, statistic
        else:
            self._lo, self._hi = torch.minimum(lo, self._lo), torch.maximum(hi, self._hi)
            if statistic is not None:
                self._statistic.merge(statistic)
        self.count += rows.shape[1]

    @torch.no_grad()
    def qparams(self) -> QParams:
        """Scale and zero point for all data seen, 0-d or ``[channels]``.

        Raises:
            CalibrationError: nothing was observed.
        """
        dtype = self._seen()[0].dtype
        chosen = self._choose()
        return QParams(self._shaped(chosen.scale.to(dtype)), self._shaped(chosen.zero_point))

    def _fresh(self, rows: Tensor) -> Statistic | None:
        """An empty statistic for a batch ``rows`` [channels, values]; None if the range is enough.

        After `observe`, ``self._statistic`` is that of all batches.
        """
        return None

    @abstractmethod
    def _choose(self) -> QParams:
        """Scale and zero point ``[channels]``, computed in float64."""

    def _range(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest value of each channel, float64 ``[channels]``."""
        lo, hi = self._seen()
        return lo.double(), hi.double()

    def _seen(self) -> tuple[Tensor, Tensor]:
        if self._lo is None or self._hi is None:
            raise CalibrationError("no calibration data: call observe() before asking for a result")
        return self._lo, self._hi

    def _shaped(self, row: Tensor) -> Tensor:
        return row[0] if self.channel_axis is None else row

    def _rows(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise RequestError(f"calibration data must be a floating-point tensor, got {got}")
        axis = self.channel_axis
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
            raise RequestError(f"a channel axis must be an integer, got {axis!r}")
        if axis is not None and not -x.dim() <= axis < x.dim():
            raise RequestError(f"channel axis {axis} does not exist in a tensor of shape {tuple(x.shape)}")
        if x.numel() == 0:
            raise CalibrationError(f"calibration data is empty: got shape {tuple(x.shape)}")
        x = x if x.dtype in (torch.float32, torch.float64) else x.float()
        if axis is not None:
            return x.movedim(axis, 0).reshape(x.shape[axis], -1)
        # any order of the values will do, so take the one in memory and copy nothing
        return x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(1, -1)
