"""SNPE and QNN: AIMET encodings 1.0.0, for the float network beside it.

The converters take them by ``--quantization_overrides`` together with the float ONNX file. A code there is
unsigned: real = (code + offset) scale with code in [0, 2^bw - 1], so offset = -(zero_point - quant_min).
"""

import json
import math
from pathlib import Path
from typing import Any

from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.float_program import float_network
from mqbench.deploy.program import Grid, Program, Weight
from mqbench.errors import IncompatibleError, RequestError

VERSION = "1.0.0"
_FIELDS = {"name", "enc_type", "dtype", "bw", "is_sym", "scale", "offset"}
_TYPES = ("PER_TENSOR", "PER_CHANNEL")


def _write(program: Program, path: Path) -> None:
    network = float_network(program)
    activations: dict[str, dict[str, Any]] = {}
    for name, value in program.values.items():
        if value.grid is None:
            continue
        entry = _activation(network.names[name], value.grid)
        if activations.setdefault(entry["name"], entry) != entry:
            raise IncompatibleError(
                f"encodings give a tensor one grid, but {entry['name']} has several; prepare with graph=3"
            )
    parameters = [_parameter(network.weights[layer.name], layer.weight) for layer in program.layers()]
    backend = program.description
    text = {
        "version": VERSION,
        "activation_encodings": list(activations.values()),
        "param_encodings": parameters,
        "quantizer_args": {
            "activation_bitwidth": backend.get("activation_bits", 8),
            "param_bitwidth": backend.get("weight_bits", 8),
            "dtype": "int",
            "is_symmetric": all(entry["is_sym"] for entry in parameters),
            "per_channel_quantization": any(entry["enc_type"] == "PER_CHANNEL" for entry in parameters),
            "quant_scheme": "min_max",
        },
        "excluded_layers": [],
        "producer": {"name": "mqbench", "format": VERSION},
    }
    path.write_text(json.dumps(text, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _activation(name: str, grid: Grid) -> dict[str, Any]:
    return {
        "name": name,
        "enc_type": "PER_TENSOR",
        "dtype": "INT",
        "bw": grid.scheme.bits,
        "is_sym": grid.scheme.symmetric,
        "scale": [grid.scale],
        "offset": [grid.scheme.quant_min - grid.zero_point],
    }


def _parameter(name: str, weight: Weight) -> dict[str, Any]:
    low = weight.scheme.quant_min
    return {
        "name": name,
        "enc_type": "PER_CHANNEL" if weight.scale.dim() else "PER_TENSOR",
        "dtype": "INT",
        "bw": weight.scheme.bits,
        "is_sym": weight.scheme.symmetric,
        "scale": weight.scale.reshape(-1).tolist(),
        "offset": [low - zero for zero in weight.zero_point.expand(weight.scale.shape).reshape(-1).tolist()],
    }


def _check(program: Program, path: Path) -> None:
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(text, dict) or text.get("version") != VERSION:
        raise RequestError(f"{path.name}: version must be {VERSION!r}")
    for group in ("activation_encodings", "param_encodings"):
        entries = text.get(group)
        if not isinstance(entries, list) or not entries:
            raise RequestError(f"{path.name}: {group} must be a list of encodings")
        for entry in entries:
            _check_entry(entry, f"{path.name}: {group}")
        names = [entry["name"] for entry in entries]
        if len(set(names)) < len(names):
            raise RequestError(f"{path.name}: {group} names a tensor twice")
    network = float_network(program)
    known = {*network.program.values, *network.program.constants}
    listed = {entry["name"] for group in ("activation_encodings", "param_encodings") for entry in text[group]}
    if listed - known:
        raise RequestError(f"{path.name}: the network has no tensor {sorted(listed - known)[0]!r}")


def _check_entry(entry: Any, place: str) -> None:
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise RequestError(
            f"{place}: an encoding has exactly the fields {', '.join(sorted(_FIELDS))}, got {entry}"
        )
    name, bits = entry["name"], entry["bw"]
    if entry["enc_type"] not in _TYPES or entry["dtype"] != "INT" or not isinstance(entry["is_sym"], bool):
        raise RequestError(f"{place}: {name} has a wrong enc_type, dtype or is_sym")
    if not isinstance(bits, int) or not 2 <= bits <= 32:
        raise RequestError(f"{place}: {name} has bw {bits!r}")
    scales, offsets = entry["scale"], entry["offset"]
    if not scales or len(scales) != len(offsets) or (entry["enc_type"] == "PER_TENSOR" and len(scales) != 1):
        raise RequestError(f"{place}: {name} has {len(scales)} scales and {len(offsets)} offsets")
    if any(not (math.isfinite(scale) and scale > 0) for scale in scales):
        raise RequestError(f"{place}: {name} has a scale that is not positive")
    if any(not -(2**bits - 1) <= offset <= 0 for offset in offsets):
        raise RequestError(f"{place}: {name} has an offset outside [-{2**bits - 1}, 0]")


EXPORTER = Exporter(
    suffix=".encodings",
    backends=("snpe",),
    write=_write,
    check=_check,
    source="AIMET, Encoding Format Specification, version 1.0.0",
)
