r"""LQ-Net: the basis of a binary code is learned from the data (Zhang et al., ECCV 2018).

The 2^t levels are b . v for all codes b in {-1, 1}^t (signed) or {0, 1}^t, with a basis v of t numbers; y is
the nearest level, thresholds at mid-points (x on one goes down). After the forward pass of each training
step, with B the chosen codes and BB', Bx summed over the tensor (or channel),

    v <- 0.9 v + 0.1 (BB' + dI)^-1 (Bx + dv),    d = 1e-4 for weights, 0 for activations

Computed as a step from v by the pseudo-inverse, which is the same where BB' can be inverted; where it
cannot (a bit that no value uses), the part of v that the data do not determine stays. Backward is
straight through; activations pass the gradient only where x <= the largest level (signed ones: |x|).

Initial v_j = 2^j 0.6745 std/2^(t-1) for weights (ddof 0), 2^j 1.349/(2^t - 1) for activations. The original
has a basis for each channel of a weight, the paper's Table 2 one for the tensor: the scheme decides. The
original has no signed activations; ours take the weights' codes, which leaves them without a level at 0.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._levels import LevelQuantizer
from mqbench.algorithms._ranges import symmetric_reach
from mqbench.algorithms._require import require, require_academic
from mqbench.fused.elementwise import Elementwise
from mqbench.fused.nearest import Nearest, Tally
from mqbench.fused.shapes import check_channels
from mqbench.observers._base import Observer
from mqbench.processes import sum_of_all
from mqbench.quantizer import Role
from mqbench.scheme import QParams, QuantScheme

MAX_BITS = 8
MOMENTUM = 0.9
BINARY = {
    bits: ((torch.arange(2**bits)[:, None] >> torch.arange(bits)) & 1).double()
    for bits in range(1, MAX_BITS + 1)
}
"""All numbers of so many bits, ``[2^bits, bits]``, the last digit first."""


def _everywhere(gradient: Tensor, x: Tensor) -> tuple[Tensor]:
    return (gradient,)


def _below(gradient: Tensor, x: Tensor, top: Tensor) -> tuple[Tensor, None]:
    return torch.where(x <= top, gradient, 0.0), None


def _within(gradient: Tensor, x: Tensor, top: Tensor) -> tuple[Tensor, None]:
    return torch.where(torch.abs(x) <= top, gradient, 0.0), None


def _undefined(x: Tensor, *_: Any) -> Tensor:
    raise NotImplementedError  # the forward pass is that of `Nearest`


EVERYWHERE = Elementwise(_undefined, _everywhere, parameters=0, scalars=0)
BELOW = Elementwise(_undefined, _below, parameters=1, scalars=0)
WITHIN = Elementwise(_undefined, _within, parameters=1, scalars=0)


class LQNet(LevelQuantizer):
    """Buffer ``basis``, ``[bits]`` or ``[channels, bits]``; it follows the data and gets no gradient.

    The code of a level is its binary number: bit j tells the sign of v_j, or whether v_j is in the sum,
    and signed codes count from quant_min.
    """

    basis: Tensor
    ridge: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("basis", torch.ones(*self.parameter_shape(), self.scheme.bits))

    @classmethod
    def check_scheme(cls, role: Role, scheme: QuantScheme) -> None:  # noqa: D102
        require_academic("lqnet", role, scheme, scale="Its basis is fitted as floats")
        require(
            scheme.bits <= MAX_BITS,
            "lqnet",
            got=f"{scheme.bits} bits",
            allowed=f"2 to {MAX_BITS}",
            reason="All of its 2^bits levels are enumerated",
        )

    def unit(self, observer: Observer) -> Tensor:
        """Initial v_0, by the algorithm's own rule."""
        raise NotImplementedError

    def passes(self) -> Elementwise:
        """Where the gradient passes: a definition whose parameter, if any, is the largest level."""
        raise NotImplementedError

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.fake_quantize_incoming(F.Incoming(x))

    def fake_quantize_incoming(self, x: F.Incoming) -> Tensor:  # noqa: D102
        passes = self.passes()
        with torch.no_grad():
            levels, order = self._ascending(x.dtype)
        nearest = Nearest(levels, passes, tallies=self.training)
        top = () if passes is EVERYWHERE else (levels[..., -1],)
        y = F.apply(nearest, x, top, (), axis=self.channel_axis)
        if nearest.tally is not None:
            with torch.no_grad():
                self.follow(nearest.tally, order)
        return y

    @property
    def levels(self) -> Tensor:  # noqa: D102
        ascending = self._in_order_of_codes(self.basis)
        return ascending.roll(self.scheme.quant_min, -1)

    def encode(self, x: Tensor) -> Tensor:  # noqa: D102
        levels, order = self._ascending(x.dtype)
        between = (levels[..., 1:] + levels[..., :-1]) / 2
        if self.channel_axis is None:
            return order[torch.bucketize(x, between)] + self.scheme.quant_min
        check_channels(len(levels), x, self.channel_axis)
        rows = x.movedim(self.channel_axis, 0)
        rank = torch.searchsorted(between, rows.reshape(len(rows), -1).contiguous())
        codes = order.gather(1, rank).view(rows.shape) + self.scheme.quant_min
        return codes.movedim(0, self.channel_axis)

    def follow(self, tally: Tally, order: Tensor) -> None:
        """Move the basis a tenth of the way to the least-squares fit of the values by their codes.

        ``tally`` is of the levels in ascending order, ``order`` their numbers.
        """
        counts, sums = tally
        if self.role == "activation":  # the weights are the same in every process
            counts, sums = sum_of_all(counts), sum_of_all(sums)
        basis, bits = self.basis.double(), self._bits(torch.float64)[order]
        weighted = counts[..., None] * bits
        gram = bits.mT @ weighted
        short = (bits.mT @ sums[..., None]) - gram @ basis[..., None]
        if self.ridge:
            gram.diagonal(dim1=-2, dim2=-1).add_(self.ridge)
            step = torch.linalg.solve(gram, short)
        else:
            step = torch.linalg.pinv(gram, hermitian=True) @ short
        self.basis.copy_(basis + (1 - MOMENTUM) * step.squeeze(-1))

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:  # noqa: D102
        scheme = self.scheme
        powers = 2.0 ** torch.arange(scheme.bits, device=qparams.scale.device)
        unit = self.unit(observer) if own else symmetric_reach(qparams.scale, scheme) / (2**scheme.bits - 1)
        self.basis = (unit.clamp_min(F.SCALE_FLOOR)[..., None] * powers).to(self.basis)

    def _bits(self, dtype: torch.dtype) -> Tensor:
        """All codes, ``[2^bits, bits]``: -1 and 1 if signed, else 0 and 1."""
        bits = BINARY[self.scheme.bits].to(self.basis.device, dtype)
        return 2 * bits - 1 if self.scheme.signed else bits

    def _ascending(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The levels, and the number of the code of each."""
        found = self._in_order_of_codes(self.basis.to(dtype)).sort(dim=-1, stable=True)
        return found.values, found.indices

    def _in_order_of_codes(self, basis: Tensor) -> Tensor:
        return (self._bits(basis.dtype) * basis[..., None, :]).sum(-1)


class LQNetWeight(LQNet):
    """Starts from the standard deviation of the weight."""

    observer: ClassVar[str] = "meanstd"
    ridge: ClassVar[float] = 1e-4

    def unit(self, observer: Observer) -> Tensor:  # noqa: D102
        deviation: Tensor = observer.population_deviation()  # type: ignore[attr-defined]
        return deviation.to(self.basis) * (0.6745 * 0.5 ** (self.scheme.bits - 1))

    def passes(self) -> Elementwise:  # noqa: D102
        return EVERYWHERE


class LQNetActivation(LQNet):
    """Starts from what the input of a layer behind a batch norm is expected to be."""

    ridge: ClassVar[float] = 0.0

    def unit(self, observer: Observer) -> Tensor:  # noqa: D102
        return torch.full_like(observer.maximum, 1.349 / (2**self.scheme.bits - 1))

    def passes(self) -> Elementwise:  # noqa: D102
        return WITHIN if self.scheme.signed else BELOW


ALGORITHM = Algorithm(
    weight=LQNetWeight,
    activation=LQNetActivation,
    uniform=False,
    deployable=False,
    plain_at_first_last=frozenset({"weight", "activation"}),
)
