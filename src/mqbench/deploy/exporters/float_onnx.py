"""The float network as ONNX: what SNPE's and Ascend's converters take beside encodings or records."""

from pathlib import Path

from mqbench.deploy import onnx_file
from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.float_program import float_network
from mqbench.deploy.program import Program
from mqbench.errors import RequestError


def _write(program: Program, path: Path) -> None:
    path.write_bytes(onnx_file.build(float_network(program).program).SerializeToString())


def _check(program: Program, path: Path) -> None:
    graph = onnx_file.read(path).graph
    found = {node.name for node in graph.node}
    missing = [layer.name for layer in program.layers() if layer.name not in found]
    if missing:
        raise RequestError(f"{path.name} has no node {missing[0]!r}")
    quantizers = [node.name for node in graph.node if node.op_type.endswith("QuantizeLinear")]
    if quantizers:
        raise RequestError(f"{path.name} is not float: it has {quantizers[0]}")


EXPORTER = Exporter(
    suffix=".float.onnx",
    backends=("snpe", "acl"),
    write=_write,
    check=_check,
    extra="onnx",
    source="ONNX",
)
