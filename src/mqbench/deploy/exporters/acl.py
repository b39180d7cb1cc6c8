"""Ascend ACL: AMCT's quantization factor record, for the float network beside it.

The text form of ``ScaleOffsetRecord`` (scale_offset_record_onnx.proto): one record a layer, by the name of its
node, with scale and offset of the activation and scales of the weight. Weight offsets are 0, as AMCT demands.
"""

import re
from pathlib import Path

from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.program import Layer, Program
from mqbench.errors import IncompatibleError, RequestError

_BITS = 8
_RECORD = re.compile(
    r'record \{\n  key: "(?P<key>[^"\n]+)"\n  value \{\n    scale_d: (?P<scale>\S+)\n    offset_d: (?P<offset>-?\d+)\n'
    r"(?P<scales>(?:    scale_w: \S+\n)+)(?P<offsets>(?:    offset_w: 0\n)+)"
    r'    skip_fusion: true\n    act_type: "INT8"\n    wts_type: "INT8"\n  \}\n\}\n'
)


def _write(program: Program, path: Path) -> None:
    path.write_text("".join(_record(program, layer) for layer in program.layers()), encoding="utf-8")


def _record(program: Program, layer: Layer) -> str:
    grid, weight = program.grid(layer.inputs[0]), layer.weight
    assert grid is not None
    if grid.scheme.bits > _BITS or weight.scheme.bits > _BITS:
        raise IncompatibleError(f"AMCT records are of up to 8 bits; {layer.name} has more")
    if bool((weight.zero_point != 0).any()):
        raise IncompatibleError(
            f"AMCT takes symmetric weights only; {layer.name} has zero points other than 0"
        )
    # offsets count from the signed range, whatever the code of the grid is
    offset = grid.zero_point - (0 if grid.scheme.signed else 2 ** (grid.scheme.bits - 1))
    scales = weight.scale.reshape(-1).tolist()
    lines = [
        "record {",
        f'  key: "{layer.name}"',
        "  value {",
        f"    scale_d: {grid.scale!r}",
        f"    offset_d: {offset}",
        *(f"    scale_w: {scale!r}" for scale in scales),
        *("    offset_w: 0" for _ in scales),
        "    skip_fusion: true",  # batch norms are merged already
        '    act_type: "INT8"',
        '    wts_type: "INT8"',
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _check(program: Program, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = {match["key"]: match for match in _RECORD.finditer(text)}
    if "".join(match.group() for match in _RECORD.finditer(text)) != text:
        raise RequestError(f"{path.name} is not a list of quantization factor records")
    layers = {layer.name: layer for layer in program.layers()}
    if set(found) != set(layers):
        odd = sorted(set(found) ^ set(layers))[0]
        raise RequestError(f"{path.name}: {odd} is a layer of the network or a record, but not both")
    for name, match in found.items():
        scales, offsets = match["scales"].count("\n"), match["offsets"].count("\n")
        if scales != offsets or scales not in (1, layers[name].weight.channels):
            raise RequestError(f"{path.name}: {name} has {scales} scales and {offsets} offsets of weights")
        if not -128 <= int(match["offset"]) <= 127:
            raise RequestError(f"{path.name}: {name} has offset_d {match['offset']}, outside int8")
        if not all(
            float(line.split()[1]) > 0 for line in [f"x {match['scale']}", *match["scales"].splitlines()]
        ):
            raise RequestError(f"{path.name}: {name} has a scale that is not positive")


EXPORTER = Exporter(
    suffix=".amct.txt",
    backends=("acl",),
    write=_write,
    check=_check,
    source="CANN, AMCT (ONNX) user guide, Record Files",
)
