"""OpenVINO on CPU: reads the QDQ file; int8 for weights with zero point 0, float for others."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mqbench.deploy import forms
from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.forms._base import Form
from mqbench.deploy.onnx_file import read, watch
from mqbench.deploy.program import Add, Layer, Pool, Program
from mqbench.deploy.runtimes._base import Fault, Node, Runtime, Session
from mqbench.errors import RequestError

FORM, KEPT = "openvino", "openvino_kept"
_INTEGER_TYPES = ("u8", "i8")
_CONVERT = ("FakeQuantize", "Reorder", "Convert", "Input", "Output", "Result", "Parameter")
_MOVE = (
    "Reshape",
    "Transpose",
    "Concatenation",
    "Split",
    "StridedSlice",
    "Pad",
    "Broadcast",
    "Tile",
    "Gather",
)
# behind an operation's name: what the writer and the plugin's passes append
_SUFFIX = re.compile(
    r"(/WithoutBiases|/Duplicated.*|_original|\.(real|unclipped|clipped|kept|flat|flat_out|divided|rounded|centred))+$"
)


class _Session(Session):
    """The network twice where tensors are watched: asking for a tensor keeps OpenVINO from fusing it away."""

    def __init__(
        self,
        program: Program,
        file: Path | None,
        threads: int,
        watched: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        assert file is not None
        self._program, self._form = program, str(options["form"])
        model = read(file)
        watch(model, program, watched, self._form)
        self._names = [*dict.fromkeys([*program.outputs, *watched])]
        self._model = _compile(model.SerializeToString(), threads, str(options["precision"]))
        form: Form = forms[self._form]  # type: ignore[index]
        grids = {name: program.grid(name) for name in self._names}
        self._offsets = {name: form.container(grid)[1] for name, grid in grids.items() if grid is not None}

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One batch."""
        arrays = [x.detach().cpu().float().numpy() for x in inputs]
        try:
            found = self._model(arrays)
        except RuntimeError as error:
            raise RequestError(f"openvino cannot run this input: {_reason(error)}") from error
        values = {name: torch.from_numpy(found[name].copy()) for name in self._names}
        return {
            name: value.to(torch.int32) - self._offsets[name] if name in self._offsets else value
            for name, value in values.items()
        }

    def nodes(self) -> list[Node]:
        """The execution graph, with the precision that each node runs in."""
        known = {op.name for op in self._program.operations}
        found = []
        for op in self._model.get_runtime_model().get_ordered_ops():
            kind, precision = _info(op, "layerType"), _info(op, "runtimePrecision")
            if kind in ("Const", "Constant"):
                continue
            layers = [_SUFFIX.sub("", name) for name in _info(op, "originalLayersNames").split(",")]
            found.append(
                Node(
                    name=op.get_friendly_name(),
                    kind=f"{kind} {_info(op, 'primitiveType')}",
                    precision=_precision(kind, precision),
                    operations=tuple(dict.fromkeys(name for name in layers if name in known)),
                )
            )
        return found

    def altered(self) -> list[str]:
        """Quantizers in front of a residual add that are not in the execution graph."""
        dropped = list(_dropped(self._program, self.nodes(), self._form))
        return [
            f"openvino computes {name} and {add} in one kernel, without the quantizer between them"
            for name, add in dropped
        ]


@cache
def core() -> Any:
    """The only core of this process.

    OpenVINO's CPU plugin gives the thread that loads it a stack for signals, and takes it away when its core goes;
    of two cores, whichever goes first, the next signal may find no stack and end the process (2026.4).
    """
    import openvino

    return openvino.Core()


def _compile(data: bytes, threads: int, precision: str) -> Any:
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    try:
        return core().compile_model(core().read_model(data, b""), "CPU", options)
    except RuntimeError as error:
        raise RequestError(f"openvino refuses the file: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _info(op: Any, key: str) -> str:
    info = op.get_rt_info()
    return info[key].astype(str) if key in info else ""


def _precision(kind: str, precision: str) -> Literal["integer", "float", "convert", "move"]:
    if kind in _CONVERT:
        return "convert"
    if kind in _MOVE:
        return "move"
    return "integer" if precision in _INTEGER_TYPES else "float"


def _before_add(program: Program) -> list[tuple[str, str]]:
    """Layers whose integers only an add reads, each with that add."""
    readers = program.readers()
    found = []
    for layer in program.layers():
        behind = readers[layer.name]
        if program.grid(layer.name) is not None and behind and all(isinstance(op, Add) for op in behind):
            found.append((layer.name, behind[0].name))
    return found


def _dropped(program: Program, nodes: Iterable[Node], form: str) -> Iterable[tuple[str, str]]:
    chosen: Form = forms[form]  # type: ignore[index]
    if chosen.residual == "float":  # it is arithmetic there, which the kernel computes
        return
    for name, add in _before_add(program):
        if any(name in node.operations and add in node.operations for node in nodes):
            yield name, add


def _padded_pools(program: Program) -> list[str]:
    return [
        op.name
        for op in program.operations
        if isinstance(op, Pool) and any(op.padding) and op.count_include_pad and not op.ceil_mode
    ]


def _asymmetric(program: Program) -> list[str]:
    return [layer.name for layer in program.layers() if _has_zero_points(layer)]


def _has_zero_points(layer: Layer) -> bool:
    return bool((layer.weight.zero_point != 0).any())


RUNTIME = Runtime(
    package="openvino",
    distribution="openvino",
    extra="openvino",
    form=FORM,
    forms=(FORM, KEPT),
    arithmetic=Arithmetic(quantize="interval", add="exact"),
    open=_Session,
    options={"precision": "f32", "form": FORM},
    faults=(
        Fault(
            name="dropped quantizer",
            about=(
                "OpenVINO fuses a convolution and the residual add behind it into one kernel and leaves out the "
                "quantizer between them, so graph 3 becomes graph 2; not while the tensor is watched"
            ),
            cure=f"form {KEPT!r} (mqbench.cure, --cure), which writes that quantizer as division, rounding and clip",
            concerns=lambda program: [name for name, _ in _before_add(program)],
            options={"form": KEPT},
        ),
        Fault(
            name="padded average pool",
            about="OpenVINO averages integers padded with 0 in place of their zero point, and is off by many steps",
            cure=f"form {KEPT!r} (mqbench.cure, --cure), which pads before it pools",
            concerns=_padded_pools,
            options={"form": KEPT},
        ),
        Fault(
            name="float weights",
            about="OpenVINO runs layers whose weights have zero points other than 0 in float, with the same values",
            cure="a backend with symmetric weights",
            concerns=_asymmetric,
        ),
    ),
    one_step=(
        "OpenVINO folds scales and zero point into the kernel's last multiply-add and rounds after adding z, so a "
        "few integers in 10^6 round the other way"
    ),
)
