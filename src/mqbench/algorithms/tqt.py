r"""TQT: the logarithm of a clipping threshold is learned, scales are powers of two (Jain et al., MLSys 2020).

With the threshold t = 2^l and n = Nmin, p = Nmax,

    s = 2^ceil(l) / 2^(bits - 1) signed, / 2^bits unsigned;   y = s clip(rint(x/s), n, p)
    dy/dx = 1 where n <= rint(x/s) <= p, else 0
    dy/dl = s ln 2 (rint(x/s) - x/s inside, n below, p above)

summed over the tensor (or channel), without a gradient scale: the power of two and the rounding up are
passed straight through, so that the gradient is that of an LSQ step size in the log domain. Rounding up
instead of to the nearest (SPEC's power of two) is the paper's: a threshold is never cut.

The original learns l with Adam, which makes the size of the gradient irrelevant; here it goes through
the one training pipeline, as every algorithm does. Initial thresholds as in the original: three standard
deviations for weights (our MeanStd), the least divergence for activations (our KLD, which is not
symmetrised). Where the user chose the calibration, l starts in the middle of the interval that gives the
calibrated scale. The original is per tensor; per channel, each channel has its own threshold.

Symmetric power-of-two schemes only: the natural companion of backend ``tvm``.
"""

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._ranges import symmetric_reach
from mqbench.algorithms._require import require
from mqbench.algorithms.lsq import AFTER_ROUNDING as LEARNED_SCALE
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize, Role
from mqbench.scheme import QParams, QuantScheme


class _Scale(Function):
    """The scale of a threshold; its gradient goes straight through the rounding of the logarithm."""

    @staticmethod
    def forward(ctx: Any, log_threshold: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return scale.view_as(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        return gradient * scale * math.log(2), None


class TQTWeight(FakeQuantize):
    """Learned ``log_threshold``, base 2."""

    observer: ClassVar[str] = "meanstd"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log_threshold = nn.Parameter(torch.zeros(self.parameter_shape()))

    @classmethod
    def check_scheme(cls, role: Role, scheme: QuantScheme) -> None:  # noqa: D102
        require(
            scheme.power_of_two,
            "tqt",
            got="a float scale",
            allowed="power_of_two=True (as backend 'tvm' has)",
            reason="It trains thresholds whose scales are powers of two; 'lsq' learns a float scale",
        )
        require(
            scheme.symmetric,
            "tqt",
            got="an asymmetric scheme",
            allowed="symmetric=True",
            reason="One threshold bounds both sides, so there is no zero point",
        )

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        scale = _Scale.apply(self.log_threshold, self.qparams().scale).to(x.dtype)
        return F.apply(LEARNED_SCALE, x, (scale, None), self.integer_range(), axis=self.channel_axis)

    def qparams(self) -> QParams:  # noqa: D102
        exponent = torch.ceil(self.log_threshold.detach()) - self._magnitude_bits()
        scale = torch.exp2(exponent).clamp_min(F.SCALE_FLOOR)
        return QParams(scale, torch.zeros_like(scale, dtype=torch.int32))

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:  # noqa: D102
        if own:  # the threshold itself, which the power of two of ``qparams`` has lost
            observer.scheme = replace(self.scheme, power_of_two=False)
            threshold = symmetric_reach(observer.qparams().scale, self.scheme)
            log_threshold = torch.log2(threshold.clamp_min(F.SCALE_FLOOR))
        else:
            log_threshold = torch.log2(qparams.scale) + self._magnitude_bits() - 0.5
        self.log_threshold.data = log_threshold.to(self.log_threshold)

    def _magnitude_bits(self) -> int:
        return self.scheme.bits - self.scheme.signed


class TQTActivation(TQTWeight):
    """The same, from another calibration."""

    observer: ClassVar[str] = "kld"


ALGORITHM = Algorithm(weight=TQTWeight, activation=TQTActivation)
