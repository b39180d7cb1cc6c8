"""A `Program` in the form that `QuantizedNetwork` takes: operations as JSON values, tensors by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mqbench.deploy.float_program import innermost_first
from mqbench.deploy.program import (
    Batch,
    Combination,
    Concat,
    Float,
    GlobalPool,
    Grid,
    Layer,
    Move,
    Operation,
    Pool,
    Program,
    Ref,
)
from mqbench.errors import IncompatibleError, RequestError

_BYTE = 256


@dataclass(frozen=True, kw_only=True)
class TorchForm:
    """What `QuantizedNetwork` is made of, and the integer that each stored one stands for.

    Args:
        operations: JSON values.
        tensors: by name.
        inputs: name to shape, None for the batch.
        outputs: names.
        offsets: of each integer tensor: stored = integer + offset.
    """

    operations: tuple[dict[str, Any], ...]
    tensors: Mapping[str, Tensor]
    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    offsets: Mapping[str, int]


def torch_form(program: Program) -> TorchForm:
    """Write a program for torch's quantized kernels.

    Each activation grid is stored from 0 up as quint8, whatever its sign and bits; so the kernel's own
    saturation is the lower end of the range, and a 4-bit network has 4-bit integers in every sum.

    Raises:
        IncompatibleError: integers of more than 8 bits.
    """
    writer = _Writer(program)
    for operation in program.operations:
        writer.write(operation)
    return TorchForm(
        operations=tuple(writer.operations),
        tensors=writer.tensors | dict(program.constants),
        inputs={name: program.values[name].shape for name in program.inputs},
        outputs=program.outputs,
        offsets={name: -grid.quant_min for name, grid in writer.grids().items()},
    )


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.operations: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}

    def grids(self) -> dict[str, Grid]:
        values = self.program.values
        return {name: grid for name in values if (grid := values[name].grid) is not None}

    def write(self, operation: Operation) -> None:
        fields: dict[str, Any] = {
            "kind": _kind(operation),
            "name": operation.name,
            "inputs": list(operation.inputs),
        }
        grid = self.program.grid(operation.name)
        if grid is not None:
            fields["grid"] = self._grid(grid, operation.name)
        if isinstance(operation, (Layer, Combination)) and grid is not None and operation.clip is not None:
            fields["clip"] = [edge - grid.quant_min for edge in operation.clip]
        if isinstance(operation, Layer):
            fields |= self._layer(operation, fields)
        elif isinstance(operation, (Move, Float)):
            fields |= {
                "target": operation.target.replace(
                    "aten.view.", "aten.reshape."
                ),  # of channels-last tensors too
                "args": [_plain(a) for a in operation.args],
                "kwargs": {name: _plain(a) for name, a in operation.kwargs.items()},
            }
        elif isinstance(operation, Concat):
            fields["axis"] = operation.axis
        elif isinstance(operation, GlobalPool):
            fields["keepdims"] = operation.keepdims
        elif isinstance(operation, Pool):
            names = ("kernel", "stride", "padding", "ceil_mode", "count_include_pad")
            fields |= {name: getattr(operation, name) for name in names}
        fields["sign"] = getattr(operation, "sign", 1)
        self.operations.append(fields)

    def _grid(self, grid: Grid, name: str) -> dict[str, Any]:
        if grid.quant_max - grid.quant_min >= _BYTE:
            raise IncompatibleError(
                f"torch's quantized kernels hold activations of up to 8 bits, {name} has {grid.scheme.bits}"
            )
        return {
            "scale": grid.scale,
            "zero_point": grid.zero_point - grid.quant_min,
            "low": 0,
            "high": grid.quant_max - grid.quant_min,
        }

    def _layer(self, layer: Layer, fields: dict[str, Any]) -> dict[str, Any]:
        weight, zero_point = layer.weight.integers, layer.weight.zero_point
        if layer.weight.scheme.bits > 8:
            raise IncompatibleError(
                f"torch's quantized kernels hold weights of up to 8 bits, {layer.name} has {layer.weight.scheme.bits}"
            )
        if not layer.weight.scheme.signed:  # stored as int8: both move down together
            shift = 2 ** (layer.weight.scheme.bits - 1)
            weight, zero_point = weight - shift, zero_point - shift
        self.tensors |= {
            f"{layer.name}.weight": weight.to(torch.int8).contiguous(),
            f"{layer.name}.weight_scale": layer.weight.scale.float(),
            f"{layer.name}.weight_zero_point": zero_point.to(torch.int32),
        }
        if layer.bias is not None:
            self.tensors[f"{layer.name}.bias"] = layer.bias.float()
        if layer.function == "linear":
            return {}
        if any(before != after for before, after in layer.padding):
            padding = [0] * len(layer.padding)
            fields["inputs"] = [self._pad(layer)]
        else:
            padding = [before for before, _ in layer.padding]
        return {
            "input_grid": self._grid(self._input_grid(layer), layer.inputs[0]),
            "stride": list(layer.stride),
            "padding": padding,
            "dilation": list(layer.dilation),
            "groups": layer.groups,
        }

    def _pad(self, layer: Layer) -> str:
        """A padding that torch's kernels cannot do, as an operation of its own."""
        (source,) = layer.inputs
        grid = self._input_grid(layer)
        name = f"{layer.name}.pad"
        self.operations.append(
            {
                "kind": "move",
                "name": name,
                "inputs": [source],
                "grid": self._grid(grid, source),
                "target": "aten.constant_pad_nd.default",
                "args": [{"tensor": source}, list(innermost_first(layer.padding)), 0.0],
                "kwargs": {},
            }
        )
        return name

    def _input_grid(self, layer: Layer) -> Grid:
        grid = self.program.grid(layer.inputs[0])
        assert grid is not None
        return grid


def _kind(operation: Operation) -> str:
    return operation.function if isinstance(operation, Layer) else type(operation).__name__.lower()


def _plain(argument: Any) -> Any:
    """An argument as a JSON value; what JSON lacks is a one-entry object."""
    if isinstance(argument, (list, tuple)):
        return [_plain(item) for item in argument]
    if isinstance(argument, Ref):
        return {"tensor": argument.name}
    if isinstance(argument, Batch):
        return {"batch": True}
    if isinstance(argument, (torch.dtype, torch.memory_format)):
        return {"torch": str(argument).removeprefix("torch.")}
    if isinstance(argument, float) and argument in (float("inf"), float("-inf")):
        return {"float": str(argument)}
    if argument is None or isinstance(argument, (bool, int, float, str)):
        return argument
    raise RequestError(f"an operation takes {argument!r}, which cannot be written to a file")
