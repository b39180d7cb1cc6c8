"""The compiled loops as one operation that a compiler of whole models (`torch.compile`) calls and does not look into.

Left to it, batch norms with the quantizers behind them, and weights, take twice the time that they take here. On
GPUs, and where no C++ compiler is, it fuses the definitions themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mqbench.fused import build
from mqbench.fused.shapes import ordered

DTYPES = (torch.float32, torch.float64)


class Call(NamedTuple):
    """What a pass is given: see `Elementwise` and `Loop`; ``ahead`` and ``clip`` are what comes before it."""

    tensors: Sequence[Tensor]
    parameters: Sequence[Tensor | None]
    scalars: Sequence[float]
    axis: int | None
    ahead: Sequence[Tensor]
    clip: Sequence[float]


class Pass(Protocol):
    """What goes over the elements of tensors once, and gives tensors of their shape and sums."""

    writes: int
    """How many of the results have the shape of the last tensor."""

    def run(self, call: Call) -> list[Tensor]:
        """The results: those of the tensors' shape, then the sums."""

    def summed(self, call: Call) -> list[Tensor]:
        """For each sum what it has the shape of."""


_PASSES: dict[str, Pass] = {}
_FORMS: dict[str, Callable[[Pass], Pass]] = {}


def register(name: str, one: Pass) -> str:
    """Let `call` know a pass by a name that means the same in every process (compiled models are cached)."""
    assert name not in _PASSES, name
    _PASSES[name] = one
    return name


def register_form(form: str, make: Callable[[Pass], Pass]) -> None:
    """Let `call` know ``"NAME FORM"`` for every pass that has a name."""
    assert form not in _FORMS, form
    _FORMS[form] = make


def _named(name: str) -> Pass:
    if name not in _PASSES:
        form = next(f for f in _FORMS if name.endswith(f" {f}"))
        _PASSES[name] = _FORMS[form](_PASSES[name.removesuffix(f" {form}")])
    return _PASSES[name]


def sees(x: Tensor) -> bool:
    """A model is being compiled, and its passes over this tensor can be called."""
    return (
        torch.compiler.is_dynamo_compiling()
        and not torch.compiler.is_exporting()
        and x.device.type == "cpu"
        and x.dtype in DTYPES
        and _there_is_a_compiler()
    )


def constant(question: Callable[[], bool]) -> Callable[[], bool]:
    """What is asked once while a model is being compiled, and not looked into."""
    asked: Callable[[], bool] = torch.compiler.assume_constant_result(question)
    return asked


_there_is_a_compiler = constant(lambda: build.is_wanted() and build.compiler() is not None)


_OPERATION = "mqbench::fused_pass"
torch.library.define(  # `custom_op` does the same, and takes three times as long to call
    _OPERATION,
    "(str name, Tensor[] tensors, Tensor?[] parameters, float[] scalars, int? axis, Tensor[] ahead, "
    "float[] clip) -> Tensor[]",
    tags=(torch.Tag.flexible_layout,),
)


@torch.library.impl(_OPERATION, "cpu")
def _fused_pass(name: str, *arguments: Any) -> list[Tensor]:
    one, call = _named(name), Call(*arguments)
    x = ordered(call.tensors[-1])
    results = one.run(call._replace(tensors=[*call.tensors[:-1], x]))
    for place, result in enumerate(results[: one.writes]):
        if result.stride() != x.stride():  # what the compiler was told
            results[place] = torch.empty_like(x).copy_(result)
    return results


def _promised(name: str, *arguments: Any) -> list[Tensor]:
    one, call = _named(name), Call(*arguments)
    x = ordered(call.tensors[-1])
    shapes = [p.shape for p in one.summed(call)]
    return [*[torch.empty_like(x) for _ in range(one.writes)], *[x.new_empty(shape) for shape in shapes]]


torch.library.register_fake(_OPERATION, _promised)


def call(
    name: str,
    tensors: Sequence[Tensor],
    parameters: Sequence[Tensor | None] = (),
    scalars: Sequence[float] = (),
    *,
    axis: int | None = None,
    ahead: Sequence[Tensor] = (),
    clip: Sequence[float] = (),
) -> list[Tensor]:
    """The pass of that name, in a model that is being compiled; only where `sees`."""
    results: list[Tensor] = torch.ops.mqbench.fused_pass(
        name, list(tensors), list(parameters), [float(s) for s in scalars], axis, list(ahead), list(clip)
    )
    return results
