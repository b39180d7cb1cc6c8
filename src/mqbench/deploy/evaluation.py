"""Computing a program operation by operation: what the integer network and the simulation share.

Between operations an integer tensor travels as float32 holding integers, which is exact below 2^24 and
lets torch's float kernels do the work; users get int32.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mqbench.deploy.program import (
    Batch,
    Concat,
    Dequantize,
    Float,
    Grid,
    Move,
    Operation,
    Program,
    Quantize,
    Ref,
)
from mqbench.errors import RequestError

Environment = dict[str, Tensor]


class Evaluator(nn.Module, ABC):
    """A program that can be called like any module.

    Args:
        program: the lowered network.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self._last_reader = _last_readers(program)
        self.eval()

    @abstractmethod
    def combine(self, operation: Operation, inputs: list[Tensor]) -> Tensor:
        """A layer or an operation that requantizes: integers (as float32) or floats out."""

    def quantize(self, x: Tensor, grid: Grid) -> Tensor:
        """Float to integers as float32: by Eq. 1, unless a network rounds otherwise."""
        return quantize(x, grid)

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Float inputs to dequantized float outputs, one or as many as the network has."""
        held = self._run(inputs, frozenset())
        outputs = tuple(held[name] for name in self.program.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    @torch.no_grad()
    def values(self, *inputs: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Tensors by name: int32 where they hold integers, float32 otherwise.

        Args:
            inputs: as for the network.
            names: which; None gives every integer tensor and the outputs.
        """
        wanted = [*self.program.integer_values(), *self.program.outputs] if names is None else names
        held = self._run(inputs, frozenset(wanted))
        return {name: self._shown(name, held[name]) for name in wanted}

    @torch.no_grad()
    def local(self, given: Mapping[str, Tensor], *inputs: Tensor) -> dict[str, Tensor]:
        """Every given tensor recomputed from the given tensors before it, so that no difference carries on.

        Args:
            given: tensors of another run of the network by name, as `values` gives them.
            inputs: of that run.
        """
        held: Environment = dict(zip(self.program.inputs, self.checked(inputs), strict=True))
        held |= {name: value.float() for name, value in given.items()}
        found: dict[str, Tensor] = {}
        for operation in self.program.operations:
            value = self.compute(operation, held)
            if operation.name in given:
                found[operation.name] = self._shown(operation.name, value)
            else:
                held[operation.name] = value
            self.forget(operation, held)
        return found

    def compute(self, operation: Operation, held: Mapping[str, Tensor]) -> Tensor:
        """One operation on the tensors it reads."""
        inputs = [held[name] for name in operation.inputs]
        if isinstance(operation, Quantize):
            return self.quantize(inputs[0], self._grid(operation.name))
        if isinstance(operation, Dequantize):
            return dequantize(inputs[0], self._grid(operation.inputs[0]))
        if isinstance(operation, Concat):
            return torch.cat(inputs, operation.axis)
        if isinstance(operation, (Move, Float)):
            grid = self.program.grid(operation.name)
            return self._call(operation, held, float(grid.zero_point) if grid is not None else None)
        return self.combine(operation, inputs)

    def _call(self, operation: Move | Float, held: Mapping[str, Tensor], zero: float | None) -> Tensor:
        some = next(iter(held[name] for name in operation.inputs))

        def fill(value: Any) -> Any:
            if isinstance(value, Ref):
                if value.name in self.program.constants:
                    return self.program.constants[value.name].to(some.device)
                return held[value.name]
            if isinstance(value, Batch):
                return some.shape[0]
            return [fill(v) for v in value] if isinstance(value, tuple) else value

        function = aten(operation.target)
        args, kwargs = [fill(a) for a in operation.args], {k: fill(v) for k, v in operation.kwargs.items()}
        name = operation.target.split(".")[1]
        if zero is not None and name in ("pad", "constant_pad_nd"):
            return torch.nn.functional.pad(args[0], args[1], value=zero)
        result: Tensor = function(*args, **kwargs)
        return result

    def _run(self, inputs: Sequence[Tensor], keep: frozenset[str]) -> Environment:
        held: Environment = dict(zip(self.program.inputs, self.checked(inputs), strict=True))
        for operation in self.program.operations:
            held[operation.name] = self.compute(operation, held)
            self.forget(operation, held, keep)
        return held

    def forget(self, operation: Operation, held: Environment, keep: frozenset[str] = frozenset()) -> None:
        """Drop the tensors that nobody reads after an operation, outputs aside."""
        for name in self._last_reader.get(operation.name, ()):
            if name not in keep:
                held.pop(name, None)

    def checked(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Inputs as float32; raises `RequestError` unless number and shapes are the network's."""
        names = self.program.inputs
        if len(inputs) != len(names):
            raise RequestError(f"the network takes {len(names)} input tensors, got {len(inputs)}")
        for name, x in zip(names, inputs, strict=True):
            if not isinstance(x, Tensor):
                raise RequestError(f"input {name} must be a tensor, got {type(x).__name__}")
            if x.is_floating_point() and not bool(x.isfinite().all()):
                raise RequestError(f"input {name} must be finite, got NaN or infinity")
            shape = self.program.values[name].shape
            fits = x.dim() == len(shape) and all(n in (None, m) for n, m in zip(shape, x.shape, strict=True))
            if not fits:
                wanted = ", ".join("batch" if n is None else str(n) for n in shape)
                raise RequestError(f"input {name} must have shape ({wanted}), got {tuple(x.shape)}")
        return [x.float() for x in inputs]

    def _shown(self, name: str, value: Tensor) -> Tensor:
        return value if self.program.grid(name) is None else value.to(torch.int32)

    def _grid(self, name: str) -> Grid:
        grid = self.program.grid(name)
        assert grid is not None, name
        return grid


def quantize(x: Tensor, grid: Grid) -> Tensor:
    """Integers of a float tensor as float32 (Eq. 1: a true division, half to even, then the zero point)."""
    scale = torch.tensor(grid.scale, dtype=torch.float32, device=x.device)
    steps = torch.div(x, scale).round_().nan_to_num_(nan=0.0)
    return steps.add_(grid.zero_point).clamp_(grid.quant_min, grid.quant_max)


def dequantize(q: Tensor, grid: Grid) -> Tensor:
    """Real values of integers that travel as float32."""
    return (q - grid.zero_point).mul_(torch.tensor(grid.scale, dtype=torch.float32, device=q.device))


def aten(target: str) -> Callable[..., Any]:
    """The aten overload of a name such as ``aten.relu.default``."""
    _, packet, overload = target.split(".")
    function: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), overload)
    return function


def _last_readers(program: Program) -> dict[str, list[str]]:
    """For each operation the tensors that nobody reads after it."""
    last: dict[str, str] = {}
    for operation in program.operations:
        last |= dict.fromkeys(operation.inputs, operation.name)
    ends: dict[str, list[str]] = {}
    for name, reader in last.items():
        if name not in program.outputs:
            ends.setdefault(reader, []).append(name)
    return ends


def batches_of(batches: Any) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
    """Inputs and labels of batches: tensors, (inputs, labels) pairs, or tuples of inputs."""
    for batch in batches:
        if not isinstance(batch, (tuple, list)):
            yield (batch,), None
        elif len(batch) == 2 and isinstance(batch[1], Tensor) and not batch[1].is_floating_point():
            yield (batch[0],), batch[1]
        else:
            yield tuple(batch), None
