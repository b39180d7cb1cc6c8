"""One compiled loop over the elements of tensors: where their memory is, and the call."""

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from mqbench.fused import build, opaque
from mqbench.fused.emit import UnsupportedOperation, emit
from mqbench.fused.shapes import check_channels, is_channels_last, ordered

SERIAL = 1 << 15
"""Elements up to which one thread is faster than many."""

_PLAIN_TENSORS = (Tensor, nn.Parameter)


def takes(x: Tensor) -> bool:
    """A loop can run on this tensor: in eager mode, on the CPU, in float32 or float64.

    In a model that is being compiled the compiler calls it (`opaque.sees`), or fuses the definition itself.
    """
    if torch.compiler.is_compiling():
        return False
    return x.dtype in opaque.DTYPES and x.device.type == "cpu" and type(x) in _PLAIN_TENSORS


class Ran(NamedTuple):
    """What one pass gave: the tensors that it wrote, and the sums."""

    written: list[Tensor]
    sums: list[Tensor]


class Loop:
    """The compiled form of an elementwise function; see `emit` for what the function may be.

    Args:
        function: of everything below, by name.
        tensors, parameters, absent, scalars: names of its arguments, by kind.
        sums: for each summed result the position of the parameter that it is a gradient of.
        writes: how many of the results, the first ones, are written for each element; the others are summed.
        name: by which models that are compiled call it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        tensors: Sequence[str],
        parameters: Sequence[str] = (),
        scalars: Sequence[str] = (),
        absent: Sequence[str] = (),
        sums: Sequence[int] = (),
        writes: int = 1,
        name: str | None = None,
    ) -> None:
        self._text = partial(
            emit, "run", function, tensors=tensors, parameters=parameters, scalars=scalars,
            absent=absent, sums=len(sums), writes=writes,
        )  # fmt: skip
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._signature: list[Any] = [
            *[pointer] * (len(tensors) + writes),
            *[pointer, number] * (len(parameters) + len(sums)),
            *[ctypes.c_double] * len(scalars),
            *[number] * 3,
            ctypes.c_int,
        ]
        self._sums, self.writes = sums, writes
        self.name = None if name is None else opaque.register(name, self)
        self._compiled: dict[Any, Any] = {}

    def compiled(self, dtypes: tuple[torch.dtype, ...], along: tuple[bool, ...] | None = None) -> Any:
        """The C function for these types of the elements and of each parameter; None if there cannot be one.

        ``along`` is for tensors whose channels are the innermost axis: which parameters have a value for each.
        """
        key = dtypes if along is None else (dtypes, along)
        if key not in self._compiled:
            if not build.is_wanted():  # not now, that is
                return None
            library = self._library(dtypes, along)
            run = None if library is None else library.run
            if run is not None:
                run.restype, run.argtypes = None, self._signature
            self._compiled[key] = run
        return self._compiled[key]

    def _library(self, dtypes: tuple[torch.dtype, ...], along: tuple[bool, ...] | None) -> ctypes.CDLL | None:
        try:
            text = self._text(dtypes=dtypes, along=along)
        except (UnsupportedOperation, fx.proxy.TraceError) as error:
            build.warn(f"one of them has no such form: {error}")
            return None
        return build.library(text)

    def __call__(
        self,
        tensors: Sequence[Tensor],
        parameters: Sequence[Tensor] = (),
        scalars: Sequence[float] = (),
        *,
        axis: int | None = None,
        out: Sequence[Tensor | None] = (),
    ) -> Ran | None:
        """The written tensors and the sums, or None where there is no compiled form.

        Called for each quantizer of each step: on small tensors its own time is all there is.

        Args:
            tensors: of one shape; the last one gives type and memory order.
            parameters: 0-d, or ``[channels]`` along ``axis``.
            out: where to write, as far as given; may be among ``tensors`` if it has the order of the last.
        """
        x = tensors[-1]
        if self.name is not None and opaque.sees(x):
            found = opaque.call(self.name, tensors, parameters, scalars, axis=axis)
            return Ran(found[: self.writes], found[self.writes :])
        dtype = x.dtype
        size = x.numel()
        counts = [p.numel() for p in parameters]
        shape, along = (1, 1, size), None
        if axis is not None and any([p.dim() for p in parameters]):  # noqa: C419
            for parameter in parameters:  # the loop reads and writes as many as there are channels
                if parameter.dim():
                    check_channels(parameter.numel(), x, axis)
            shape = _around(x.shape, axis)
            if shape[1] > 1 and (shape[2] == 1 if x.is_contiguous() else axis == 1 and is_channels_last(x)):
                shape, along = (size // shape[1], shape[1], 1), tuple([n > 1 for n in counts])
        run = self.compiled((dtype, *[p.dtype for p in parameters]), along)
        if run is None:
            return None
        if along is None:
            x = ordered(x, any_order=shape[0] == 1)
        strides = x.stride()
        kept = [x]  # what the loop reads must live until it is done
        arguments: list[Any] = []
        for tensor in tensors[:-1]:
            if tensor.stride() != strides or tensor.dtype is not dtype:
                tensor = torch.empty_like(x).copy_(tensor)
            kept.append(tensor)
            arguments.append(tensor.data_ptr())
        arguments.append(x.data_ptr())
        written = []
        for place in range(self.writes):
            given = out[place] if place < len(out) else None
            if given is None or given.stride() != strides or given.dtype is not dtype:
                given = torch.empty_like(x)
            written.append(given)
            arguments.append(given.data_ptr())
        for parameter, count in zip(parameters, counts, strict=True):
            if not parameter.is_contiguous():
                parameter = parameter.contiguous()
                kept.append(parameter)
            arguments += (parameter.data_ptr(), count > 1)
        sums = []
        for index in self._sums:
            total = torch.empty(parameters[index].shape, dtype=dtype)
            sums.append(total)
            arguments += (total.data_ptr(), counts[index] > 1)
        run(*arguments, *scalars, *shape, torch.get_num_threads() if size > SERIAL else 1)
        return Ran(written, sums)

    def run(self, call: opaque.Call) -> list[Tensor]:
        """As `opaque.Pass`; nothing is ahead."""
        given = [p for p in call.parameters if p is not None]
        ran = self(call.tensors, given, call.scalars, axis=call.axis)
        assert ran is not None
        return [*ran.written, *ran.sums]

    def summed(self, call: opaque.Call) -> list[Tensor]:
        """As `opaque.Pass`."""
        given = [p for p in call.parameters if p is not None]
        return [given[index] for index in self._sums]


@lru_cache(maxsize=4096)
def _around(shape: torch.Size, axis: int) -> tuple[int, int, int]:
    """Number of elements before, along and behind an axis that exists."""
    axis %= len(shape)
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
