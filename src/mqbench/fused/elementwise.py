"""An elementwise function and its gradient, defined once in torch; eager CPU tensors take the fused loop."""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor

from mqbench.fused import opaque
from mqbench.fused.activation import Clip
from mqbench.fused.definition import NOTHING, Before
from mqbench.fused.loop import Loop, takes
from mqbench.fused.shapes import broadcast, reduce_like

_NORM = ["mean", "factor", "shift"]
_GAIN = ["gain"]


class Elementwise:
    """y = forward(x, parameters) element by element, and its gradient.

    Args:
        forward: ``(x, *parameters, *scalars) -> y``, in terms of torch operations on tensors that
            broadcast; see `emit` for the operations that have a fused form.
        backward: ``(gradient, x, *parameters, *scalars) -> (dx, *d_parameters)``; the gradient of a
            parameter is given for each element (it is summed here), or None.
        parameters, scalars: how many of each there are. A parameter is a tensor with one value, one for each
            channel, or None; a scalar is a number.
        gradients: how many of the parameters, from the first on, `backward` gives a gradient of.
        name: by which models that are compiled call its passes, on a CPU; without one they fuse the functions.
    """

    writes = 1

    def __init__(
        self,
        forward: Callable[..., Tensor],
        backward: Callable[..., tuple[Tensor | None, ...]],
        *,
        parameters: int,
        scalars: int,
        gradients: int = 0,
        name: str | None = None,
    ) -> None:
        self._forward, self._backward = forward, backward
        self._parameters = [f"p{i}" for i in range(parameters)]
        self._scalars = [f"s{i}" for i in range(scalars)]
        self._gradients = gradients
        self._loops: dict[Any, Loop] = {}
        self.name = None if name is None else opaque.register(name, self)

    def forward(
        self,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        before: Before = NOTHING,
    ) -> Tensor:
        """y, of the shape of ``x``. No gradient is recorded."""
        found = self._fused((x,), parameters, scalars, axis, before)
        if found is not None:
            return found[0]
        x = before.first(x)
        x = x if before.clip is None else before.clip(x)
        return self._forward(x, *(p if p is None else broadcast(p, x, axis) for p in parameters), *scalars)

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
        """Gradients: of x, of what comes before, and of each parameter.

        With an affine the first is that of its result (``before.through``: of x), and the second those of factor and
        shift; with a gain, that of x and of the gain.
        """
        found = self._fused((gradient, x), parameters, scalars, axis, before)
        if found is not None:
            return found[0], *self._assigned(found[1:], parameters, before)
        shaped = [p if p is None else broadcast(p, x, axis) for p in parameters]
        behind = before.first(x)
        clipped = behind if before.clip is None else before.clip(behind)
        inside, *terms = self._backward(gradient, clipped, *shaped, *scalars)
        assert inside is not None
        dx = inside
        if before.clip is not None:
            lower, upper = before.clip
            dx = torch.where((behind <= lower) | (behind >= upper), 0.0, dx)
        totals = [
            reduce_like(term, like).reshape(parameter.shape)
            for term, parameter, like in zip(terms, parameters, shaped, strict=False)
            if term is not None and parameter is not None and like is not None
        ]
        if before.affine is not None:
            mean = broadcast(before.affine.mean, x, 1)
            totals[:0] = [reduce_like(v, mean).flatten() for v in (dx * (x - mean), dx)]
            if before.through:
                dx = dx * broadcast(before.affine.factor, x, 1)
        if before.gain is not None:
            gain = broadcast(before.gain, x, 0)
            totals[:0] = [reduce_like(dx * x, gain).flatten()]
            dx = dx * gain
        return dx, *self._assigned(totals, parameters, before)

    def terms(
        self, x: Tensor, parameters: Sequence[Tensor | None], scalars: Sequence[float], clip: Clip | None
    ) -> list[Tensor | None]:
        """The derivative of y to each parameter, for each element; parameters are 0-d."""
        one = torch.ones((), dtype=x.dtype, device=x.device)
        return list(self._backward(one, x if clip is None else clip(x), *parameters, *scalars)[1:])

    def _assigned(
        self, totals: list[Tensor], parameters: Sequence[Tensor | None], before: Before
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Which sum is whose."""
        own = 2 if before.affine is not None else 1 if before.gain is not None else 0
        rest = iter(totals[own:])
        return totals[:own], [None if p is None else next(rest, None) for p in parameters[: self._gradients]]

    # -- the fused form ---------------------------------------------------------------------------

    def _fused(
        self,
        tensors: Sequence[Tensor],
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        axis: int | None,
        before: Before,
    ) -> list[Tensor] | None:
        """What is written, then the sums; None where torch operations, or a compiler of the model, do it."""
        affine, clip, gain, through = before
        if not takes(tensors[-1]):
            # what is done to a whole tensor, the compiler does with what is around; behind an affine `behind` calls
            if self.name is None or (axis is None and gain is None) or not opaque.sees(tensors[-1]):
                return None
            assert affine is None
            own, ends = [] if gain is None else [gain], () if clip is None else clip
            return opaque.call(self.name, tensors, parameters, scalars, axis=axis, ahead=own, clip=ends)
        ahead, vectors = list[str](), tuple[Tensor, ...]()
        if affine is not None:
            ahead, vectors, axis = _NORM, affine, 1
        elif gain is not None:
            ahead, vectors, axis = _GAIN, (gain,), 0
        key = (len(tensors), through, *ahead, *(p is None for p in parameters))
        loop = self._loops.get(key)
        if loop is None:
            backward = partial(self._backward_after, through=through) if len(tensors) == 2 else None
            loop = self._loops[key] = self._loop(parameters, ahead, backward)
        given = [*vectors, *(p for p in parameters if p is not None)]
        ran = loop(tensors, given, (*scalars, *((-inf, inf) if clip is None else clip)), axis=axis)
        return None if ran is None else [*ran.written, *ran.sums]

    def run(self, call: opaque.Call) -> list[Tensor]:
        """As `opaque.Pass`: forward for one tensor, backward for two; ahead is nothing or a gain."""
        tensors, parameters, scalars, axis, ahead, clip = call
        before = Before(clip=Clip(*clip) if clip else None, gain=ahead[0] if ahead else None)
        if len(tensors) == 1:
            return [self.forward(tensors[0], parameters, scalars, axis=axis, before=before)]
        gradient, x = tensors
        dx, own, totals = self.backward(gradient, x, parameters, scalars, axis=axis, before=before)
        return [dx, *own, *(total for total in totals if total is not None)]

    def summed(self, call: opaque.Call) -> list[Tensor]:
        """As `opaque.Pass`."""
        if len(call.tensors) == 1:
            return []
        return [*call.ahead, *self.learned(call.parameters)]

    def learned(self, parameters: Sequence[Tensor | None]) -> list[Tensor]:
        """The parameters that get a gradient."""
        return [p for p in parameters[: self._gradients] if p is not None]

    def _loop(
        self, parameters: Sequence[Tensor | None], ahead: list[str], backward: Callable[..., Any] | None
    ) -> Loop:
        given = [n for n, p in zip(self._parameters, parameters, strict=True) if p is not None]
        absent = [n for n in self._parameters if n not in given]
        summed = [n for n in self._parameters[: self._gradients] if n in given]
        names = [*ahead, *given]
        summed = [] if backward is None else [*(ahead if ahead == _GAIN else ahead[1:]), *summed]
        return Loop(
            backward or self._forward_after,
            tensors=["gradient", "x"] if backward else ["x"],
            parameters=names,
            absent=[*absent, *(n for n in (*_NORM, *_GAIN) if n not in ahead)],
            scalars=[*self._scalars, "lower", "upper"],
            sums=[names.index(n) for n in summed],
        )

    def _forward_after(
        self, x: Any, mean: Any, factor: Any, shift: Any, gain: Any, lower: Any, upper: Any, **named: Any
    ) -> Any:
        if gain is not None:
            x = x * gain
        if mean is not None:
            x = (x - mean) * factor + shift
        return self._forward(torch.clamp(x, lower, upper), *self._ordered(named))

    def _backward_after(
        self,
        gradient: Any,
        x: Any,
        mean: Any,
        factor: Any,
        shift: Any,
        gain: Any,
        lower: Any,
        upper: Any,
        *,
        through: bool,
        **named: Any,
    ) -> Any:
        behind = x if mean is None else (x - mean) * factor + shift
        if gain is not None:
            behind = x * gain
        inside, *terms = self._backward(gradient, torch.clamp(behind, lower, upper), *self._ordered(named))
        assert inside is not None
        # one condition made of two is a branch to g++, and five times as slow
        dx = torch.where(behind <= lower, 0.0, torch.where(behind >= upper, 0.0, inside))
        if gain is not None:
            return (dx * gain, dx * x, *terms)
        if mean is not None:
            return (dx * factor if through else dx, dx * (x - mean), dx, *terms)
        return (dx, *terms)

    def _ordered(self, named: dict[str, Any]) -> list[Any]:
        return [named[n] for n in (*self._parameters, *self._scalars)]
