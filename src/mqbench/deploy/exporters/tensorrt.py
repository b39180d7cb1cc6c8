"""TensorRT: explicit Q/DQ ONNX, as the engine builder takes it: zero zero-points, float bias, plain ReLU."""

from pathlib import Path
from typing import Any

from mqbench.deploy import onnx_file
from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.program import Program
from mqbench.errors import RequestError

FORM = "tensorrt"


def _write(program: Program, path: Path) -> None:
    path.write_bytes(onnx_file.build(program, form=FORM).SerializeToString())


def _check(program: Program, path: Path) -> None:
    """The rules of TensorRT's guide for explicitly quantized networks."""
    import onnx

    graph = onnx_file.read(path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _check_pair(node, constants, path)
        elif node.op_type in ("Conv", "Gemm"):
            _check_layer(node, constants, makers, path)
    layers = sum(node.op_type in ("Conv", "Gemm") for node in graph.node)
    if layers < sum(1 for _ in program.layers()):
        raise RequestError(f"{path.name} has {layers} layers, fewer than the network")


def _check_pair(node: Any, constants: dict[str, Any], path: Path) -> None:
    scale, zero_point = (constants.get(name) for name in node.input[1:3])
    if scale is None or not (scale > 0).all():
        raise RequestError(f"{path.name}: the scale of {node.name} must be a positive constant")
    if zero_point is None or zero_point.any() or str(zero_point.dtype) != "int8":
        raise RequestError(f"{path.name}: {node.name} must have int8 zero points of 0")


def _check_layer(node: Any, constants: dict[str, Any], makers: dict[str, Any], path: Path) -> None:
    weight = makers.get(node.input[1])
    if weight is None or weight.op_type != "DequantizeLinear":
        return  # a layer that is skipped stays float
    if len(node.input) > 2:
        bias = constants.get(node.input[2])
        if bias is None or str(bias.dtype) != "float32":
            raise RequestError(f"{path.name}: the bias of {node.name} must be a float32 constant")


EXPORTER = Exporter(
    suffix=".tensorrt.onnx",
    backends=(),  # the ONNX file that is exported for TensorRT has this form itself
    write=_write,
    check=_check,
    extra="onnx",
    source="NVIDIA TensorRT, Working with Quantized Types: explicit quantization",
)
