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
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize, Role
from mqbench.scheme import QParams, QuantScheme


class _TrainedThreshold(Function):
    """Eq. 1 with the gradients for x and the logarithm of the threshold."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, log_threshold: Tensor, scale: Tensor, quant_min: int, quant_max: int
    ) -> Tensor:
        level = torch.round(x / scale)
        kept = level.clamp(quant_min, quant_max)
        inside = level.eq_(kept)
        y = kept.mul_(scale)
        ctx.save_for_backward(x, y, inside)
        ctx.like, ctx.shape = scale, log_threshold.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, inside = ctx.saved_tensors
        dl = None
        if ctx.needs_input_grad[1]:
            error = torch.addcmul(y, x, inside, value=-1).mul_(gradient)  # s (...) of the formula
            dl = F.reduce_like(error, ctx.like).reshape(ctx.shape) * math.log(2)
        return gradient * inside, dl, None, None, None


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
        scale = F.broadcast(self.qparams().scale, x, self.channel_axis).to(x.dtype)
        y: Tensor = _TrainedThreshold.apply(x, self.log_threshold, scale, *self.integer_range())
        return y

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
