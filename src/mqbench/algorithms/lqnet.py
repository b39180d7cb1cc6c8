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
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mqbench import functional as F
from mqbench.algorithm import Algorithm
from mqbench.algorithms._levels import LevelQuantizer
from mqbench.algorithms._ranges import by_channel, symmetric_reach
from mqbench.algorithms._require import require, require_academic
from mqbench.observers._base import Observer
from mqbench.processes import sum_of_all
from mqbench.quantizer import Role
from mqbench.scheme import QParams, QuantScheme

MAX_BITS = 8
MOMENTUM = 0.9


class _StraightThrough(Function):
    """y forward; backward the gradient goes to x, where ``passes``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, passes: Tensor | None) -> Tensor:
        ctx.save_for_backward(*([] if passes is None else [passes]))
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (gradient * ctx.saved_tensors[0] if ctx.saved_tensors else gradient), None, None


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

    def passes(self, x: Tensor, levels: Tensor) -> Tensor | None:
        """Where the gradient passes; None is everywhere."""
        raise NotImplementedError

    def fake_quantize(self, x: Tensor) -> Tensor:  # noqa: D102
        with torch.no_grad():
            codes, levels = self.encode(x), self.levels.to(x.dtype)
            y = self.look_up(levels, codes).where(x == x, torch.nan)
            passes = self.passes(x, levels)
            if self.training:
                self.follow(x, codes)
        out: Tensor = _StraightThrough.apply(x, y, passes)
        return out

    @property
    def levels(self) -> Tensor:  # noqa: D102
        ascending = self._in_order_of_codes(self.basis)
        return ascending.roll(self.scheme.quant_min, -1)

    def encode(self, x: Tensor) -> Tensor:  # noqa: D102
        levels, order = self._in_order_of_codes(self.basis.to(x.dtype)).sort(dim=-1, stable=True)
        between = (levels[..., 1:] + levels[..., :-1]) / 2
        if self.channel_axis is None:
            return order[torch.bucketize(x, between)] + self.scheme.quant_min
        rows = x.movedim(self.channel_axis, 0)
        rank = torch.searchsorted(between, rows.flatten(1).contiguous())
        codes = order.gather(1, rank).view(rows.shape) + self.scheme.quant_min
        return codes.movedim(0, self.channel_axis)

    def follow(self, x: Tensor, codes: Tensor) -> None:
        """Move the basis a tenth of the way to the least-squares fit of ``x`` by its codes."""
        bits = self._bits(torch.float64)
        rows = by_channel(x, self.channel_axis).double()
        index = by_channel(codes, self.channel_axis) - self.scheme.quant_min
        counts = rows.new_zeros(*rows.shape[:-1], len(bits))
        sums = counts.scatter_add(-1, index, rows)
        counts.scatter_add_(-1, index, torch.ones_like(rows))
        if self.role == "activation":  # the weights are the same in every process
            sums, counts = sum_of_all(sums), sum_of_all(counts)
        basis = self.basis.double()
        gram = bits.mT @ (counts[..., None] * bits)
        short = sums @ bits - (gram @ basis[..., None]).squeeze(-1)
        ridge = self.ridge * torch.eye(self.scheme.bits, dtype=gram.dtype, device=gram.device)
        step = torch.linalg.pinv(gram + ridge, hermitian=True) @ short[..., None]
        self.basis.copy_(basis + (1 - MOMENTUM) * step.squeeze(-1))

    def apply_qparams(self, qparams: QParams, observer: Observer, *, own: bool) -> None:  # noqa: D102
        scheme = self.scheme
        powers = 2.0 ** torch.arange(scheme.bits, device=qparams.scale.device)
        unit = self.unit(observer) if own else symmetric_reach(qparams.scale, scheme) / (2**scheme.bits - 1)
        self.basis = (unit.clamp_min(F.SCALE_FLOOR)[..., None] * powers).to(self.basis)

    def _bits(self, dtype: torch.dtype) -> Tensor:
        """All codes, ``[2^bits, bits]``: -1 and 1 if signed, else 0 and 1."""
        position = torch.arange(self.scheme.bits, device=self.basis.device)
        number = torch.arange(2**self.scheme.bits, device=self.basis.device)
        bits = ((number[:, None] >> position) & 1).to(dtype)
        return 2 * bits - 1 if self.scheme.signed else bits

    def _in_order_of_codes(self, basis: Tensor) -> Tensor:
        return (self._bits(basis.dtype) * basis[..., None, :]).sum(-1)


class LQNetWeight(LQNet):
    """Starts from the standard deviation of the weight."""

    observer: ClassVar[str] = "meanstd"
    ridge: ClassVar[float] = 1e-4

    def unit(self, observer: Observer) -> Tensor:  # noqa: D102
        deviation: Tensor = observer.population_deviation()  # type: ignore[attr-defined]
        return deviation.to(self.basis) * (0.6745 * 0.5 ** (self.scheme.bits - 1))

    def passes(self, x: Tensor, levels: Tensor) -> Tensor | None:  # noqa: D102
        return None


class LQNetActivation(LQNet):
    """Starts from what the input of a layer behind a batch norm is expected to be."""

    ridge: ClassVar[float] = 0.0

    def unit(self, observer: Observer) -> Tensor:  # noqa: D102
        return torch.full_like(observer.maximum, 1.349 / (2**self.scheme.bits - 1))

    def passes(self, x: Tensor, levels: Tensor) -> Tensor | None:  # noqa: D102
        return (x.abs() if self.scheme.signed else x) <= levels.max()


ALGORITHM = Algorithm(
    weight=LQNetWeight,
    activation=LQNetActivation,
    uniform=False,
    deployable=False,
    plain_at_first_last=frozenset({"weight", "activation"}),
)
