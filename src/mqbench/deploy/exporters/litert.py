"""LiteRT: the all-integer network as a ``.tflite`` file, read back by its interpreter."""

from pathlib import Path

from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.program import Program
from mqbench.deploy.tflite_file import build, read
from mqbench.errors import RequestError


def _write(program: Program, path: Path) -> None:
    path.write_bytes(build(program))


def _check(program: Program, path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=read(path))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise RequestError(f"{path.name}: LiteRT refuses it: {' '.join(str(error).split())}") from error
    for listed, names in (
        (interpreter.get_input_details(), program.inputs),
        (interpreter.get_output_details(), program.outputs),
    ):
        found = [entry["name"] for entry in listed]
        if sorted(found) != sorted(names):
            raise RequestError(f"{path.name}: its ends are {found}, the network's are {list(names)}")


EXPORTER = Exporter(
    suffix=".tflite",
    backends=(),  # LiteRT is an optional extra: asked for by name, or written beside the model that it proves
    write=_write,
    check=_check,
    extra="litert",
    source="TensorFlow Lite, schema.fbs and 8-bit quantization specification",
    checked_by="ai-edge-litert",
)
