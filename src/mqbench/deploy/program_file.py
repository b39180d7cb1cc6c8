"""A program on disk: ``NAME.json`` (structure) and ``NAME.safetensors`` (weights, biases, constants).

Nothing is pickled, and reading refuses operations that this package does not write.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mqbench.deploy import program as p
from mqbench.deploy._onnx_float import FLOATS
from mqbench.deploy._onnx_moves import MOVES
from mqbench.deploy.program import Program
from mqbench.errors import RequestError
from mqbench.files import whole_file
from mqbench.scheme import QuantScheme

FORMAT = 1
_CLASSES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        p.Add, p.Batch, p.Concat, p.Dequantize, p.Float, p.GlobalPool, p.Grid, p.Layer, p.MatMul, p.Move,
        p.Multiply, p.Pool, p.Quantize, p.Ref, p.Value, p.Weight, QuantScheme,
    )
}  # fmt: skip


def save(program: Program, path: str | Path) -> list[Path]:
    """Write ``path`` (.json) and its sibling (.safetensors); returns both, each atomically."""
    structure = Path(path)
    tensors: dict[str, Tensor] = {}
    fields = {
        name: _encode(getattr(program, name), name, tensors)
        for name in ("operations", "values", "inputs", "outputs", "constants", "description")
    }
    text = json.dumps({"format": FORMAT, **fields}, indent=1, allow_nan=False)
    weights = structure.with_suffix(".safetensors")
    with whole_file(weights) as sibling:
        sibling.write_bytes(save_tensors(tensors))
    with whole_file(structure) as sibling:
        sibling.write_text(text + "\n", encoding="utf-8")
    return [structure, weights]


def load(path: str | Path) -> Program:
    """Read what `save` wrote.

    Raises:
        RequestError: a file is missing or damaged, or holds what this package does not write.
    """
    structure = Path(path)
    weights = structure.with_suffix(".safetensors")
    try:
        tensors = load_tensors(weights.read_bytes())
        fields = json.loads(structure.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read {error.filename}: {error.strerror}") from None
    except SafetensorError as error:
        raise RequestError(f"{weights} is damaged: {error}") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{structure} is damaged: {error}") from None
    try:
        if fields.pop("format") != FORMAT:
            raise RequestError(f"{structure} was written by another version of mqbench")
        program = Program(**{name: _decode(value, tensors) for name, value in fields.items()})
        _check(program)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{structure} is damaged: {type(error).__name__}: {error}") from None
    return program


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        label = getattr(value, "name", path) if isinstance(value, p.Operation) else path
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {type(value).__name__: {k: _encode(v, f"{label}.{k}", tensors) for k, v in fields.items()}}
    if isinstance(value, Mapping):
        return {"map": {k: _encode(v, f"{path}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_encode(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise RequestError(f"{path}: {type(value).__name__} cannot be written")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v, tensors) for v in value)
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "map":
        return {k: _decode(v, tensors) for k, v in content.items()}
    if kind == "dtype":
        found = getattr(torch, content)
        if not isinstance(found, torch.dtype):
            raise ValueError(f"no dtype {content!r}")
        return found
    if kind == "number":
        return float(content)
    return _CLASSES[kind](**{k: _decode(v, tensors) for k, v in content.items()})


def _check(program: Program) -> None:
    """Every tensor is computed before it is read, and every aten call is one that is written."""
    known = set(program.inputs)
    for operation in program.operations:
        assert isinstance(operation, p.Operation)
        missing = [name for name in operation.inputs if name not in known]
        if missing or operation.name not in program.values:
            raise ValueError(f"{operation.name} reads {missing or 'nothing known'}")
        if isinstance(operation, (p.Float, p.Move)):
            parts = operation.target.split(".")
            if len(parts) != 3 or parts[0] != "aten" or parts[1] not in {*FLOATS, *MOVES}:
                raise ValueError(f"{operation.name} calls {operation.target}")
        known.add(operation.name)
    if not set(program.outputs) <= known:
        raise ValueError("an output is not computed")
