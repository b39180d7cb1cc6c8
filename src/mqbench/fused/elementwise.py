"""An elementwise function and its gradient, defined once in torch; eager CPU tensors take the fused loop."""

import ctypes
from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any

import torch
from torch import Tensor, nn

from mqbench.fused import build
from mqbench.fused.activation import Clip
from mqbench.fused.emit import emit
from mqbench.fused.recompute import remember
from mqbench.fused.shapes import broadcast, reduce_like

_PLAIN_TENSORS = (Tensor, nn.Parameter)
_DTYPES = (torch.float32, torch.float64)
SERIAL = 1 << 15
"""Elements up to which one thread is faster than many."""


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
    """

    def __init__(
        self,
        forward: Callable[..., Tensor],
        backward: Callable[..., tuple[Tensor | None, ...]],
        *,
        parameters: int,
        scalars: int,
        gradients: int = 0,
    ) -> None:
        self._forward, self._backward = forward, backward
        self._parameters = [f"p{i}" for i in range(parameters)]
        self._scalars = [f"s{i}" for i in range(scalars)]
        self._gradients = gradients
        self._kernels: dict[Any, _Kernel | None] = {}

    def forward(
        self,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        clip: Clip | None = None,
    ) -> Tensor:
        """y, of the shape of ``x``; with ``clip`` that of the clipped ``x``. No gradient is recorded."""
        kernel = self._kernel(x, parameters, backward=False)
        if kernel is None:
            x = x if clip is None else clip(x)
            return self._forward(
                x, *(p if p is None else broadcast(p, x, axis) for p in parameters), *scalars
            )
        y, _ = kernel((x,), parameters, scalars, axis, clip)
        return y

    def backward(
        self,
        gradient: Tensor,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        clip: Clip | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """dx, and the gradient of each of the first ``gradients`` parameters, of its shape."""
        kernel = self._kernel(x, parameters, backward=True)
        if kernel is not None:
            return kernel((gradient, x), parameters, scalars, axis, clip)
        shaped = [p if p is None else broadcast(p, x, axis) for p in parameters]
        found, *sums = self._backward(gradient, x if clip is None else clip(x), *shaped, *scalars)
        assert found is not None
        dx: Tensor = found
        if clip is not None:
            dx = torch.where((x > clip.lower) & (x < clip.upper), dx, 0.0)
        totals = []
        for term, parameter, like in zip(sums, parameters, shaped, strict=False):
            assert parameter is None or like is not None
            known = term is not None and parameter is not None and like is not None
            totals.append(reduce_like(term, like).reshape(parameter.shape) if known else None)  # type: ignore[arg-type, union-attr]
        return dx, tuple(totals)

    def remember(
        self,
        y: Tensor,
        x: Tensor,
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        *,
        axis: int | None = None,
        clip: Clip | None = None,
    ) -> None:
        """Note on ``y`` that it is `forward` of these arguments, so that a layer need not keep it."""
        if torch.compiler.is_compiling() or not y.requires_grad or y.device.type != "cpu":
            return
        source = x.detach()
        given = [None if p is None else p.detach() for p in parameters]
        remember(y, lambda: self.forward(source, given, scalars, axis=axis, clip=clip))

    # -- the fused form ---------------------------------------------------------------------------

    def _kernel(self, x: Tensor, parameters: Sequence[Tensor | None], *, backward: bool) -> "_Kernel | None":
        if torch.compiler.is_compiling():  # the compiler fuses the definition with what is around it
            return None
        if x.dtype not in _DTYPES or x.device.type != "cpu" or type(x) not in _PLAIN_TENSORS:
            return None
        key = (backward, x.dtype, *(None if p is None else p.dtype for p in parameters))
        if key not in self._kernels:
            wanted = build.is_wanted()
            self._kernels[key] = self._make(x.dtype, parameters, backward) if wanted else None
        return self._kernels[key]

    def _make(
        self, dtype: torch.dtype, parameters: Sequence[Tensor | None], backward: bool
    ) -> "_Kernel | None":
        given = [n for n, p in zip(self._parameters, parameters, strict=True) if p is not None]
        absent = [n for n in self._parameters if n not in given]
        summed = [i for i, p in enumerate(parameters[: self._gradients]) if p is not None] if backward else []
        scalars = [*self._scalars, "lower", "upper"]
        text = emit(
            "run",
            self._clipped_backward if backward else self._clipped_forward,
            tensors=["gradient", "x"] if backward else ["x"],
            parameters=given,
            absent=absent,
            scalars=scalars,
            dtypes=[dtype, *(p.dtype for p in parameters if p is not None)],
            sums=len(summed),
        )
        library = build.library(text)
        if library is None:
            return None
        return _Kernel(
            library.run,
            tensors=1 + backward,
            parameters=len(given),
            summed=summed,
            gradients=self._gradients,
            scalars=len(scalars),
        )

    def _clipped_forward(self, x: Any, lower: Any, upper: Any, **named: Any) -> Any:
        return self._forward(torch.clamp(x, lower, upper), *self._ordered(named))

    def _clipped_backward(self, gradient: Any, x: Any, lower: Any, upper: Any, **named: Any) -> Any:
        dx, *sums = self._backward(gradient, torch.clamp(x, lower, upper), *self._ordered(named))
        assert dx is not None
        return (torch.where((x > lower) & (x < upper), dx, 0.0), *sums)

    def _ordered(self, named: dict[str, Any]) -> list[Any]:
        return [named[n] for n in (*self._parameters, *self._scalars)]


class _Kernel:
    """A compiled loop: finds the memory of its arguments and results, and calls it."""

    def __init__(
        self, run: Any, *, tensors: int, parameters: int, summed: Sequence[int], gradients: int, scalars: int
    ) -> None:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        run.restype = None
        run.argtypes = [
            *[pointer] * (tensors + 1),
            *[pointer, number] * (parameters + len(summed)),
            *[ctypes.c_double] * scalars,
            *[number] * 3,
            ctypes.c_int,
        ]
        self._run = run
        self._summed, self._gradients = summed, gradients

    def __call__(
        self,
        tensors: Sequence[Tensor],
        parameters: Sequence[Tensor | None],
        scalars: Sequence[float],
        axis: int | None,
        clip: Clip | None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        x = tensors[-1]
        size = x.numel()
        shape = (1, 1, size)
        if axis is not None and any(p is not None and p.dim() for p in parameters):
            shape = (prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis:][1:]))
        if not x.is_contiguous() and not (shape[0] == 1 and _is_channels_last(x)):
            x = x.contiguous()
        out = torch.empty_like(x)
        kept = [out, x]  # what the loop reads must live until it is done
        arguments: list[Any] = []
        for tensor in tensors[:-1]:
            if tensor.stride() != x.stride() or tensor.dtype is not x.dtype:
                tensor = torch.empty_like(x).copy_(tensor)
            kept.append(tensor)
            arguments.append(tensor.data_ptr())
        arguments += [x.data_ptr(), out.data_ptr()]
        for parameter in parameters:
            if parameter is not None:
                if not parameter.is_contiguous():
                    parameter = parameter.contiguous()
                    kept.append(parameter)
                arguments += [parameter.data_ptr(), 1 if parameter.dim() else 0]
        totals: list[Tensor | None] = [None] * self._gradients
        for index in self._summed:
            like = parameters[index]
            assert like is not None
            totals[index] = total = torch.empty_like(like, memory_format=torch.contiguous_format)
            arguments += [total.data_ptr(), 1 if like.dim() else 0]
        arguments += scalars
        arguments += (-inf, inf) if clip is None else (clip.lower, clip.upper)
        self._run(*arguments, *shape, torch.get_num_threads() if size > SERIAL else 1)
        return out, tuple(totals)


def _is_channels_last(x: Tensor) -> bool:
    """Dense, with the first axis outermost, but not in the order of the axes."""
    return (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )
