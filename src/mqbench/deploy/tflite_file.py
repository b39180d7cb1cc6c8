"""`Program` -> ``.tflite``, the all-integer network that LiteRT (TensorFlow Lite's runtime) reads.

Tensors of the program have their names in the file. Images are channel last, as everywhere in TensorFlow:
the file's inputs are float32 ``[N, H, W, C]``.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

from mqbench.deploy import bias as biases
from mqbench.deploy._tflite_operations import write_operation
from mqbench.deploy._tflite_writer import Writer, packed, schema
from mqbench.deploy.program import Program
from mqbench.errors import RequestError
from mqbench.files import whole_file


def build(program: Program) -> bytes:
    """The file's bytes.

    Raises:
        RequestError: LiteRT is missing.
        IncompatibleError: its integer kernels cannot express the network; the message names the operation.
    """
    fitting, _ = biases.fit(program)
    writer = Writer(fitting)
    for name in fitting.inputs:
        writer.value(name)
    for operation in fitting.operations:
        write_operation(writer, operation)
    return writer.finish(fitting.outputs)


def write(program: Program, path: str | Path) -> Path:
    """Write the file, atomically; errors as `build`."""
    content = build(program)
    with whole_file(Path(path)) as sibling:
        sibling.write_bytes(content)
    return Path(path)


def read(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        RequestError: there is none, or it is no ``.tflite`` file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    if content[4:8] != b"TFL3":
        raise RequestError(f"{path} is damaged or no .tflite file")
    return content


def watched(content: bytes, names: Sequence[str]) -> bytes:
    """A file with more of its tensors as outputs.

    Raises:
        RequestError: it has no such tensor, or it is damaged.
    """
    try:
        model = schema().ModelT.InitFromPackedBuf(content, 0)
        (graph,) = model.subgraphs
        known = {tensor.name.decode(): index for index, tensor in enumerate(graph.tensors)}
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(f"the .tflite file is damaged: {error}") from None
    strange = [name for name in names if name not in known]
    if strange:
        raise RequestError(f"the .tflite file has no tensor {strange[0]!r}")
    graph.outputs = list(dict.fromkeys([*graph.outputs, *(known[name] for name in names)]))
    return packed(model)
