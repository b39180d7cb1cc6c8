r"""APoT: levels are sums of powers of two, under a learned clipping threshold (Li et al., ICLR 2020).

The levels of a magnitude of m bits are all sums of one addend from each set, divided by the largest sum:

    m = 2: {0, 1/2, 1/4, 1/8}                    = {0, .25, .5, 1}
    m = 3: {0, 1/2, 1/4, 1/16} + {0, 1/8}        = {0, .1, .2, .3, .4, .6, .8, 1}
    m = 4: {0, 1/2, 1/8, 1/32} + {0, 1/4, 1/16, 1/64}

with m = t - 1 if signed (one bit is the sign) and t if not. With c = clip(x/a, -1 or 0, 1),

    y = a nearest(c)              ties to the smaller magnitude
    dx = dy 1[in]                 in: x/a needed no clipping
    da = sum of dy (nearest(c) - 1[in] x/a)

and no gradient scale; a = max(|a|, 1e-5). Weights are first normalised to (w - mean)/(std + 1e-5) (ddof 1;
per channel if so quantized), which is differentiated through and stays in the output. a starts at 3 for
weights and 6 for activations. The paper benchmarks it in the academic setting only: the levels are not
equally spaced, and the normalisation does not go with BN folding (appendix F).
"""

from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._levels import LevelQuantizer
from mqbench.algorithms._ranges import by_channel, std_mean, symmetric_reach
from mqbench.algorithms._require import require, require_academic
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.standard import can_standardise, standardised
from mqbench.observers._base import Observer
from mqbench.quantizer import Role
from mqbench.scheme import QParams, QuantScheme

BITS = (3, 4)
ALPHA_FLOOR = 1e-5
EPSILON = 1e-5

# addends in units of the smallest one, by bits of the magnitude: integers are exact in every dtype
_ADDENDS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((0, 4, 2, 1),),
    3: ((0, 8, 4, 1), (0, 2)),
    4: ((0, 32, 8, 2), (0, 16, 4, 1)),
}


def _sums(magnitude_bits: int) -> list[int]:
    return sorted(sum(terms) for terms in product(*_ADDENDS[magnitude_bits]))


def magnitudes(scheme: QuantScheme, like: Tensor) -> Tensor:
    """The levels in [0, 1], ascending, in the type and on the device of ``like``."""
    sums = _sums(scheme.bits - scheme.signed)
    return torch.tensor(sums, dtype=like.dtype, device=like.device) / sums[-1]


def nearest(c: Tensor, levels: Tensor) -> Tensor:
    """Index of the level next to each magnitude of ``c``; the lower one of a tie."""
    return torch.bucketize(c.abs(), (levels[1:] + levels[:-1]) / 2)


class _Threshold(Function):
    """a = max(|a|, 1e-5), passed straight through."""

    @staticmethod
    def forward(ctx: Any, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(alpha)
        return alpha.abs().clamp_min(ALPHA_FLOOR)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (alpha,) = ctx.saved_tensors
        return (torch.where(alpha < 0, -gradient, gradient),)


def _projection(magnitude_bits: int) -> Elementwise:
    """Clip by a, take the nearest level, multiply by a; its numbers are the lower end and the mid-points."""
    sums = _sums(magnitude_bits)

    def project(x: Tensor, a: Tensor, lower: float, *between: float) -> tuple[Tensor, Tensor, Tensor]:
        ratio = x / a
        c = torch.clamp(ratio, lower, 1.0)
        magnitude = torch.abs(c)
        level = magnitude * 0.0
        for end, above in zip(between, sums[1:], strict=True):
            level = torch.where(magnitude > end, float(above), level)
        return ratio, c, torch.where(c == c, level / sums[-1] * torch.sign(c), c)

    def forward(x: Tensor, a: Tensor, *numbers: float) -> Tensor:
        return project(x, a, *numbers)[2] * a

    def backward(gradient: Tensor, x: Tensor, a: Tensor, *numbers: float) -> tuple[Tensor | None, ...]:
        ratio, c, projected = project(x, a, *numbers)
        inside = c == ratio
        return torch.where(inside, gradient, 0.0), gradient * (projected - torch.where(inside, ratio, 0.0))

    return Elementwise(
        forward, backward, parameters=1, scalars=len(sums), gradients=1, name=f"apot {magnitude_bits}"
    )


def _between(magnitude_bits: int, dtype: torch.dtype) -> tuple[float, ...]:
    """The mid-points of neighbouring levels, as numbers of a type."""
    sums = _sums(magnitude_bits)
    levels = torch.tensor(sums, dtype=dtype) / sums[-1]
    return tuple(((levels[1:] + levels[:-1]) / 2).tolist())


PROJECTIONS = {bits: _projection(bits) for bits in _ADDENDS}
BETWEEN = {
    (bits, dtype): _between(bits, dtype) for bits in _ADDENDS for dtype in (torch.float32, torch.float64)
}


class APoTActivation(LevelQuantizer):
    """Learned clipping threshold ``alpha``; codes are signed ranks of the levels."""

    initial: ClassVar[float] = 6.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = nn.Parameter(torch.full(self.parameter_shape(), self.initial))

    @classmethod
    def check_scheme(cls, role: Role, scheme: QuantScheme) -> None:  # noqa: D102
        require_academic("apot", role, scheme, scale="Its threshold is learned as a float")
        require(
            scheme.bits in BITS,
            "apot",
            got=f"{scheme.bits} bits",
            allowed=" or ".join(map(str, BITS)),
            reason="Its addends are defined for these (with 2 bits the levels are equally spaced)",
        )

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        return F.apply(*self._projection(x), axis=self.channel_axis)

    def _projection(self, x: F.Incoming) -> tuple[Elementwise, F.Incoming, tuple[Tensor], tuple[float, ...]]:
        """What is applied, to what, with which parameters and numbers."""
        scheme = self.scheme
        threshold: Tensor = _Threshold.apply(self.alpha)
        bits = scheme.bits - scheme.signed
        numbers = (-1.0 if scheme.signed else 0.0, *BETWEEN[bits, x.dtype])
        return PROJECTIONS[bits], x, (threshold.to(x.dtype),), numbers

    @property
    def levels(self) -> Tensor:  # noqa: D102
        alpha = self.alpha.detach().abs().clamp_min(ALPHA_FLOOR)[..., None]
        positive = magnitudes(self.scheme, alpha)
        return (
            torch.cat([positive, -positive[1:].flip(0)]) * alpha if self.scheme.signed else positive * alpha
        )

    def encode(self, x: Tensor) -> Tensor:  # noqa: D102
        a = F.broadcast(self.alpha.abs().clamp_min(ALPHA_FLOOR), x, self.channel_axis)
        c = (x / a).clamp(-1 if self.scheme.signed else 0, 1)
        return nearest(c, magnitudes(self.scheme, x)) * c.sign().long()

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:  # noqa: D102
        reach = symmetric_reach(qparams.scale, self.scheme)
        self.alpha.data = (torch.full_like(reach, self.initial) if own else reach).to(self.alpha)


class APoTWeight(APoTActivation):
    """The same on the normalised weight."""

    initial: ClassVar[float] = 3.0

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        w = x.whole()
        if self.channel_axis not in (None, 0) or not can_standardise(w):
            return super().fake_quantize_incoming(F.Incoming(self.transform(w)))
        definition, _, threshold, numbers = self._projection(x)
        per_channel = self.channel_axis == 0
        return standardised(w, EPSILON, definition, threshold, numbers, per_channel=per_channel)

    def transform(self, x: Tensor) -> Tensor:  # noqa: D102
        statistics = std_mean(by_channel(x, self.channel_axis))
        std, mean = (F.broadcast(p, x, self.channel_axis) for p in statistics)
        return (x - mean) * (1 / (std + EPSILON))


ALGORITHM = Algorithm(
    weight=APoTWeight,
    activation=APoTActivation,
    uniform=False,
    deployable=False,
    plain_at_first_last=frozenset({"weight", "activation"}),
)
