"""Activations that are clipped to [lo, hi] first and quantized by Eq. 1 then (PACT, DoReFa)."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mqbench import functional as F
from mqbench.fused.elementwise import Elementwise
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QParams


def _forward(
    x: Tensor,
    lo: Tensor,
    hi: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    quant_min: float,
    quant_max: float,
) -> Tensor:
    return F.uniform(torch.clamp(x, lo, hi), scale, zero_point, quant_min, quant_max)


def _gradients(
    gradient: Tensor,
    x: Tensor,
    lo: Tensor,
    hi: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    quant_min: float,
    quant_max: float,
) -> tuple[Tensor, ...]:
    below, above = x < lo, x > hi
    dx = torch.where(below | above, 0.0, gradient)
    return dx, torch.where(below, gradient, 0.0), torch.where(above, gradient, 0.0)


CLIPPED = Elementwise(_forward, _gradients, parameters=4, scalars=2, gradients=2, name="clipped")
"""Clip, then Eq. 1; the clipping thresholds receive the gradient of what they clip."""


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
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:
        lo, hi = self.clip_range()
        qparams = self.clip_qparams(lo.detach(), hi.detach())
        zero_point = None if self.scheme.symmetric else qparams.zero_point.to(x.dtype)
        parameters = (lo.to(x.dtype), hi.to(x.dtype), qparams.scale.to(x.dtype), zero_point)
        return F.apply(CLIPPED, x, parameters, (self.scheme.quant_min, self.scheme.quant_max))

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
