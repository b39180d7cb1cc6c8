"""PTQ: Eq. 1 with the calibrated scale and zero point, frozen (post-training quantization).

What calibration found is what is computed; training, if any, moves the weights only, by the
straight-through estimator.
"""

from typing import Any

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.observers._base import Observer
from mqbench.quantizer import FakeQuantize
from mqbench.scheme import QParams


class Frozen(FakeQuantize):
    """Fixed ``fixed_scale`` and ``fixed_zero_point``."""

    fixed_scale: Tensor
    fixed_zero_point: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = self.parameter_shape()
        self.register_buffer("fixed_scale", torch.ones(shape))
        self.register_buffer("fixed_zero_point", torch.zeros(shape, dtype=torch.int32))

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        zero_point = None if self.scheme.symmetric else self.fixed_zero_point
        grid = self.integer_range()
        return F.fake_quantize(x, self.fixed_scale, zero_point, *grid, axis=self.channel_axis)

    def qparams(self) -> QParams:  # noqa: D102
        return QParams(self.fixed_scale, self.fixed_zero_point)

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:  # noqa: D102
        self.fixed_scale = qparams.scale.to(self.fixed_scale)
        self.fixed_zero_point = qparams.zero_point.to(self.fixed_zero_point)


ALGORITHM = Algorithm(weight=Frozen, activation=Frozen)
