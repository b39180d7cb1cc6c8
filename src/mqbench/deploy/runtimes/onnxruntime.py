"""ONNX Runtime on CPU: reads the QDQ file and fuses it into integer kernels (QLinearConv, QGemm, ...)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor

from mqbench.deploy import forms
from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.forms._base import Form
from mqbench.deploy.onnx_file import read, watch
from mqbench.deploy.program import Dequantize, Float, Operation, Program, Quantize
from mqbench.deploy.runtimes._base import Fault, Node, Runtime, Session
from mqbench.errors import RequestError

FORM = "onnxruntime"
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}
_CONVERT = frozenset({"QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput"})
_MOVE = frozenset(
    [
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "NhwcMaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Split",
        "Squeeze",
        "Tile",
        "Unsqueeze",
        "Clip",
    ]
)
_FLOAT_LAYERS = {f"float {name}" for name in ("conv1d", "conv2d", "conv3d", "linear")}
_FLOAT_CLIPS = {f"float {name}" for name in ("relu", "relu6", "hardtanh", "clamp")}
_INTEGER = re.compile(r"QLinear|QGemm|MatMulInteger|ConvInteger|QAttention|DynamicQuantize")
# behind an operation's name: what the writer and the optimizer append
_SUFFIX = re.compile(r"(_token_\d+|_nhwc\w*|_out\d+|/\w+|\.(real|unclipped|clipped|kept|flat|flat_out))+$")


class OnnxSession(Session):
    """An ONNX file in ONNX Runtime, on its own CPU kernels."""

    form = FORM

    def __init__(
        self,
        program: Program,
        file: Path | None,
        threads: int,
        watched: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        import onnxruntime

        assert file is not None
        if options["optimization"] not in _LEVELS:
            allowed = ", ".join(_LEVELS)
            raise RequestError(f"optimization must be one of {allowed}, got {options['optimization']!r}")
        self._engine: Any = onnxruntime
        self._program, self._threads, self._options = program, threads, options
        model = read(file)
        watch(model, program, watched, self.form)
        self._bytes = model.SerializeToString()
        self._names = [*dict.fromkeys([*program.outputs, *watched])]
        self._session = self._open()
        form: Form = forms[self.form]  # type: ignore[index]
        grids = {name: program.grid(name) for name in self._names}
        self._offsets = {name: form.container(grid)[1] for name, grid in grids.items() if grid is not None}

    def _open(self, dump: Path | None = None) -> Any:
        chosen = self._engine.SessionOptions()
        chosen.intra_op_num_threads = self._threads
        chosen.inter_op_num_threads = 1
        chosen.log_severity_level = 3
        level = _LEVELS[self._options["optimization"]]
        chosen.graph_optimization_level = getattr(self._engine.GraphOptimizationLevel, level)
        if dump is not None:
            chosen.optimized_model_filepath = str(dump)
        try:
            return self._engine.InferenceSession(
                self._bytes,
                chosen,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=[name for name in str(self._options["without"]).split("+") if name],
            )
        except Exception as error:  # the engine raises classes of its own for whatever it refuses
            reason = str(error).strip().partition("\n")[0]
            raise RequestError(f"onnxruntime refuses the file: {reason}") from error

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One batch."""
        names = self._program.inputs
        feed = {name: x.detach().cpu().float().numpy() for name, x in zip(names, inputs, strict=True)}
        try:
            arrays = self._session.run(self._names, feed)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise RequestError(f"onnxruntime cannot run this input: {reason}") from error
        found = {name: torch.from_numpy(array) for name, array in zip(self._names, arrays, strict=True)}
        return {
            name: value.to(torch.int32) - self._offsets[name] if name in self._offsets else value
            for name, value in found.items()
        }

    def nodes(self) -> list[Node]:
        """The nodes of the graph that ONNX Runtime's optimizer leaves."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            self._open(path)
            import onnx

            graph = onnx.load(str(path)).graph  # read() would refuse the engine's own operations
        known = {op.name: op for op in self._program.operations}
        weights = {tensor.name for tensor in graph.initializer}
        return [
            Node(
                name=node.name,
                kind=node.op_type,
                precision=precision_of(node.op_type),
                operations=operations_of([node.name, *node.output], known),
            )
            for node in graph.node
            if not all(name in weights for name in node.input)  # a constant that was not folded
        ]


def precision_of(kind: str, *, inside: bool = False) -> Literal["integer", "float", "convert", "move"]:
    """Of a node of this type; ``inside`` a part that is compiled to integers whatever its nodes are called."""
    if _INTEGER.search(kind):
        return "integer"
    if kind in _CONVERT:
        return "convert"
    if kind in _MOVE:
        return "move"
    return "integer" if inside else "float"


def operations_of(names: Sequence[str], known: Mapping[str, Operation]) -> tuple[str, ...]:
    """The operations of the program that a node computes, by its own name and those of its outputs."""
    stripped = [_SUFFIX.sub("", name) for name in names]
    ends = list(dict.fromkeys(name for name in stripped if name in known))
    if len(ends) < 2:
        return tuple(ends)
    return tuple(dict.fromkeys([ends[0], *_between(ends[0], ends[-1], known)]))


def _between(first: str, last: str, known: Mapping[str, Operation]) -> list[str]:
    """Operations on the way from one to another, that one included (a fused convolution, add and ReLU)."""
    if first == last:
        return [last]
    for name in known[last].inputs:
        if name in known and (path := _between(first, name, known)):
            return [*path, last]
    return []


def _saturating(program: Program) -> list[str]:
    """Layers whose pairs of products can leave int16 in the x86 kernels without VNNI."""
    return [layer.name for layer in program.layers() if layer.weight.scheme.bits == 8] if not _vnni() else []


def _float_between_quantizers(program: Program) -> list[str]:
    """Layers that stay float, whose input was dequantized and whose output, maybe behind a ReLU, is quantized."""
    made = {op.name: op for op in program.operations}
    readers = program.readers()
    found = []
    for op in program.operations:
        if not isinstance(op, Float) or op.kind not in _FLOAT_LAYERS:
            continue
        behind = readers[op.name]
        if len(behind) == 1 and behind[0].kind in _FLOAT_CLIPS:
            behind = readers[behind[0].name]
        source = made.get(op.inputs[0])
        if isinstance(source, Dequantize) and any(isinstance(reader, Quantize) for reader in behind):
            found.append(op.name)
    return found


def _vnni() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True  # not an x86 Linux: no such kernels, or unknown
    return "vnni" in flags or "avx" not in flags


RUNTIME = Runtime(
    package="onnxruntime",
    distribution="onnxruntime",
    extra="onnxruntime",
    form=FORM,
    arithmetic=Arithmetic(),
    open=OnnxSession,
    options={"optimization": "all", "without": ""},  # names of optimizers, with + between them
    faults=(
        Fault(
            name="float layers quantized",
            about="the optimizer turns weights and bias of a float layer between a dequantizer and a quantizer into "
            "8-bit integers: the layer is not float any more",
            cure="the option without=WeightBiasQuantization (in a session of one's own: disabled_optimizers)",
            concerns=_float_between_quantizers,
            options={"without": "WeightBiasQuantization"},
        ),
        Fault(
            name="16-bit saturation",
            about="x86 CPUs without VNNI add pairs of uint8 x int8 products in 16 bits, which saturate",
            cure="7-bit weights or activations (bits=7), or a CPU with VNNI",
            concerns=_saturating,
        ),
    ),
)
