"""Functions of ``[channels]`` vectors with several results, in one call instead of a dozen.

A batch norm's arithmetic on its vectors costs next to nothing and its calls do not: on small networks they are
a good part of a training step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mqbench.fused.loop import Loop, takes


class Vectors:
    """Several vectors, or None, and numbers to several vectors, or None; without gradients.

    Args:
        function: ``(*tensors, *scalars) -> tuple``, in terms of torch operations; see `emit` for those that have a
            fused form. A tensor may be None, and a result for it.
        tensors, scalars: names of its arguments. The last tensor is never None.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Any, ...]],
        *,
        tensors: Sequence[str],
        scalars: Sequence[str] = (),
    ) -> None:
        self._function, self._tensors, self._scalars = function, tensors, scalars
        self._loops: dict[tuple[bool, ...], tuple[Loop, list[bool]]] = {}

    def __call__(
        self,
        tensors: Sequence[Tensor | None],
        scalars: Sequence[float] = (),
        out: Sequence[Tensor | None] = (),
    ) -> list[Any]:
        """The results, each of one shape and type with the last tensor.

        Args:
            tensors: all of one shape.
            scalars: numbers.
            out: where to write results, the first ones, as far as given; may be among ``tensors``.
        """
        present = tuple([t is not None for t in tensors])
        like = tensors[-1]
        assert like is not None
        if takes(like):
            loop, returned = self._loops.get(present) or self._loop(present)
            ran = loop([t for t in tensors if t is not None], (), scalars, out=out)
            if ran is not None:
                rest = iter(ran.written)
                return self._placed([next(rest) if given else None for given in returned], out)
        return self._placed(list(self._function(*tensors, *scalars)), out)

    def _placed(self, results: list[Any], out: Sequence[Tensor | None]) -> list[Any]:
        """Results that were not written where they belong (another type, no compiled form) are copied there."""
        for place, target in enumerate(out):
            if target is not None and results[place] is not target:
                results[place] = target.copy_(results[place])
        return results

    def _loop(self, present: tuple[bool, ...]) -> tuple[Loop, list[bool]]:
        names = dict(zip(self._tensors, present, strict=True))
        probe = [torch.ones(1) if given else None for given in present]
        returned = [r is not None for r in self._function(*probe, *[1.0] * len(self._scalars))]
        loop = Loop(
            self._named,
            tensors=[n for n, given in names.items() if given],
            absent=[n for n, given in names.items() if not given],
            scalars=self._scalars,
            writes=sum(returned),
        )
        self._loops[present] = loop, returned
        return self._loops[present]

    def _named(self, **named: Any) -> tuple[Any, ...]:
        return self._function(*[named[n] for n in (*self._tensors, *self._scalars)])
