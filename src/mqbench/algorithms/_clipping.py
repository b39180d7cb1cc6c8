"""Activations that are clipped to [lo, hi] first and quantized by Eq. 1 then (PACT, DoReFa)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QParams


class _Clip(Function):
    """Clip, then Eq. 1; the clipping thresholds receive the gradient of what they clip."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lo: Tensor, hi: Tensor, qparams: QParams, quant_min: int, quant_max: int
    ) -> Tensor:
        ctx.save_for_backward(x, lo, hi)
        level = torch.round(x.clamp(lo, hi).div_(qparams.scale)).add_(qparams.zero_point)
        return level.clamp_(quant_min, quant_max).sub_(qparams.zero_point).mul_(qparams.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, lo, hi = ctx.saved_tensors
        above, below = x > hi, x < lo
        dx = gradient.masked_fill(above | below, 0)
        d_lo = (gradient * below).sum() if ctx.needs_input_grad[1] else None
        d_hi = (gradient * above).sum() if ctx.needs_input_grad[2] else None
        return dx, d_lo, d_hi, None, None, None


class ClippedActivation(FakeQuantize):
    """Clips to [-a, a], [0, a] or [b, a] by the scheme, with a and b starting at +/- ``initial``.

    Symmetric: [-a, a], unsigned [0, a]. Asymmetric: [b, a], b <= 0; with nonnegative calibration data
    [0, a] (b = -a would waste half of the grid, and b would never get a gradient).
    """

    initial: ClassVar[float]
    learned: ClassVar[bool]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = nn.Parameter(torch.tensor(self.initial), requires_grad=self.learned)
        self.beta = None
        if not self.scheme.symmetric:
            self.beta = nn.Parameter(torch.tensor(-self.initial), requires_grad=self.learned)

    def clip_qparams(self, lo: Tensor, hi: Tensor) -> QParams:
        """Scale and zero point of the clipping range."""
        return F.range_to_qparams(lo, hi, self.scheme)

    def clip_range(self) -> tuple[Tensor, Tensor]:
        """The thresholds that ``x`` is clipped to; differentiable in ``alpha`` and ``beta``."""
        # not abs(): a threshold at 0 must still get a gradient
        hi = torch.where(self.alpha >= 0, self.alpha, -self.alpha)
        if self.scheme.symmetric and self.scheme.signed:
            return -hi, hi
        if self.beta is None or self._nonnegative:
            return torch.zeros_like(hi), hi
        return torch.where(self.beta <= 0, self.beta, -self.beta), hi

    def fake_quantize(self, x: Tensor) -> Tensor:
        lo, hi = self.clip_range()
        qparams = self.clip_qparams(lo.detach(), hi.detach())
        y: Tensor = _Clip.apply(x, lo, hi, qparams, self.scheme.quant_min, self.scheme.quant_max)
        return y

    def qparams(self) -> QParams:
        lo, hi = self.clip_range()
        return self.clip_qparams(lo.detach(), hi.detach())

    @torch.no_grad()
    def integer_range(self) -> tuple[int, int]:
        """The integers of the thresholds: rounding is monotone, so clipping integers there is the same."""
        qparams = self.qparams()
        ends = torch.stack(self.clip_range())
        grid = self.scheme.quant_min, self.scheme.quant_max
        low, high = F.quantize(ends, qparams.scale, qparams.zero_point, *grid).tolist()
        return low, high

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:
        if self.beta is not None and self.learned:
            self.beta.requires_grad_(not self._nonnegative)
        if own or not self.learned:
            self.alpha.data.fill_(self.initial)
            if self.beta is not None:
                self.beta.data.fill_(-self.initial)
            return
        scheme = self.scheme
        self.alpha.data.copy_((scheme.quant_max - qparams.zero_point) * qparams.scale)
        if self.beta is not None:
            self.beta.data.copy_((scheme.quant_min - qparams.zero_point) * qparams.scale)

    def loaded(self) -> None:
        if self.beta is not None and self.learned:
            self.beta.requires_grad_(not self._nonnegative)
