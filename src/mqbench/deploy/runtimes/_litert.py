"""Sessions of LiteRT's interpreter, with one of its three sets of kernels; and what its int8 weights cannot be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mqbench.deploy._tflite_writer import CHANNEL_FIRST, CHANNEL_LAST, HIGH, LOW, code_offset
from mqbench.deploy.program import Layer, Program
from mqbench.deploy.runtimes._base import Fault, Node, Session
from mqbench.deploy.tflite_file import build, read, watched
from mqbench.errors import RequestError

DELEGATE = "DELEGATE"
_CONVERT = frozenset({"QUANTIZE", "DEQUANTIZE", "TRANSPOSE", "CAST"})
_MOVE = frozenset(
    {"CONCATENATION", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "PAD", "PADV2", "RESHAPE", "STRIDED_SLICE"}
)


class LiteRTSession(Session):
    """A ``.tflite`` file in an interpreter.

    Args:
        program: the lowered network.
        file: of it; None builds one.
        kernels: a name of the interpreter's ``OpResolverType``.
        threads: of the engine.
        watch: tensors besides the outputs.
    """

    def __init__(
        self, program: Program, file: Path | None, kernels: str, threads: int, watch: Sequence[str]
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._program = program
        content = build(program) if file is None else read(file)
        self._wanted = list(dict.fromkeys([*program.outputs, *watch]))
        self._content = watched(content, self._wanted)  # the interpreter does not copy it
        try:
            self._interpreter: Any = Interpreter(
                model_content=self._content,
                num_threads=threads,
                experimental_op_resolver_type=OpResolverType[kernels],
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise RequestError(f"litert refuses the file: {' '.join(str(error).split())}") from error
        self._inputs = {entry["name"]: entry["index"] for entry in self._interpreter.get_input_details()}
        self._outputs = {entry["name"]: entry["index"] for entry in self._interpreter.get_output_details()}
        grids = {name: program.grid(name) for name in self._wanted}
        self._offsets = {name: code_offset(grid) for name, grid in grids.items() if grid is not None}
        self._shapes: list[tuple[int, ...]] = []

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        """One batch; the interpreter plans its memory anew where the size of the batch changes."""
        arrays = [_reordered(x.detach().cpu().float(), CHANNEL_LAST).numpy() for x in inputs]
        names = self._program.inputs
        try:
            if [array.shape for array in arrays] != self._shapes:
                for name, array in zip(names, arrays, strict=True):
                    self._interpreter.resize_tensor_input(self._inputs[name], array.shape)
                self._interpreter.allocate_tensors()
                self._shapes = [array.shape for array in arrays]
            for name, array in zip(names, arrays, strict=True):
                self._interpreter.set_tensor(self._inputs[name], array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise RequestError(f"litert cannot run this input: {' '.join(str(error).split())}") from error
        return {name: self._found(name) for name in self._wanted}

    def _found(self, name: str) -> Tensor:
        value = torch.from_numpy(self._interpreter.get_tensor(self._outputs[name]))
        value = _reordered(value, CHANNEL_FIRST)
        return value.to(torch.int32) - self._offsets[name] if name in self._offsets else value

    def nodes(self) -> list[Node]:
        """The operators of the file, and which of them a delegate computes."""
        # the interpreter gives no other account of its plan than this method, which its own tools use
        details = self._interpreter._get_ops_details()
        names = {entry["index"]: entry["name"] for entry in self._interpreter.get_tensor_details()}
        taken = set(_delegated(details))
        known = sorted((op.name for op in self._program.operations), key=len, reverse=True)
        layers = {layer.name for layer in self._program.layers()}
        found = []
        for entry in details:
            if entry["op_name"] == DELEGATE:
                continue
            output = names[entry["outputs"][0]]
            operation = next((x for x in known if output == x or output.startswith(f"{x}.")), "")
            kind = entry["op_name"]
            found.append(
                Node(
                    name=output,
                    kind=f"XNNPACK {kind}" if entry["index"] in taken else kind,
                    precision=_precision(entry, scales=operation in layers),
                    operations=(operation,) if operation else (),
                )
            )
        return found


def opener(kernels: str) -> Callable[..., Session]:
    """``Runtime.open`` for a set of kernels."""

    def start(
        program: Program, file: Path | None, threads: int, watch: Sequence[str], _: Mapping[str, Any]
    ) -> Session:
        return LiteRTSession(program, file, kernels, threads, watch)

    return start


def _reordered(value: Tensor, order: Sequence[int]) -> Tensor:
    return value.permute(*order).contiguous() if value.dim() == 4 else value.contiguous()


def _precision(entry: Mapping[str, Any], *, scales: bool) -> Literal["integer", "float", "convert", "move"]:
    """Of an operator; ``scales``: it belongs to a layer, where a product of floats turns sums into real values."""
    kind = entry["op_name"]
    if kind in _CONVERT or (kind == "MUL" and scales):
        return "convert"
    if kind in _MOVE:
        return "move"
    return "float" if np.float32 in entry["result_types"] else "integer"


def _delegated(details: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Operators that delegates compute: those on the way from their inputs to their outputs."""
    makers = {
        int(output): entry for entry in details if entry["op_name"] != DELEGATE for output in entry["outputs"]
    }
    for delegate in (entry for entry in details if entry["op_name"] == DELEGATE):
        ends, waiting = set(map(int, delegate["inputs"])), list(map(int, delegate["outputs"]))
        while waiting:
            tensor = waiting.pop()
            if tensor in ends or tensor not in makers:
                continue
            ends.add(tensor)
            yield makers[tensor]["index"]
            waiting.extend(map(int, makers[tensor]["inputs"]))


def _with_zero_points(program: Program) -> list[str]:
    """Layers whose integers about their zero points leave int8."""
    return [layer.name for layer in program.layers() if not _fits(layer, LOW)]


def _at_the_lowest(program: Program) -> list[str]:
    """Layers with a weight of -128."""
    return [layer.name for layer in program.layers() if _fits(layer, LOW) and not _fits(layer, LOW + 1)]


def _fits(layer: Layer, low: int) -> bool:
    centred = layer.weight.centred()
    return low <= int(centred.min()) and int(centred.max()) <= HIGH


FAULTS = (
    Fault(
        name="zero points of weights",
        about="LiteRT's int8 weights have none, and these do not fit into int8 without theirs: the network is refused",
        cure="symmetric weights, or 7-bit weights in the layers concerned, whose differences to a zero point fit",
        concerns=_with_zero_points,
        reduce_weights_to=7,
    ),
    Fault(
        name="weights of -128",
        about=(
            "LiteRT specifies -127 to 127, so that kernels may add two products in 16 bits; the x86 kernels of this "
            "engine are exact with them"
        ),
        cure="none needed here; for other processors prepare the network with 7-bit weights",
        concerns=_at_the_lowest,
    ),
)
