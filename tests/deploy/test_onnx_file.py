"""ONNX files: standard-conforming, with our integers and names in them, or a refusal that says why."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import mqbench
from deployed import NETWORKS, SETTINGS, converted
from mqbench.deploy import forms
from mqbench.deploy.bias import integer_bias
from mqbench.deploy.lowering import lower
from mqbench.deploy.onnx_file import build, read
from mqbench.deploy.simulation import Simulation
from mqbench.errors import IncompatibleError, RequestError
from networks import images

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
FORMS: list[str] = list(cast("Any", forms))


def initializers(model: Any) -> dict[str, Any]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", ["basic", "inverted", "squeeze", "padded"])
def test_every_form_computes_the_network_by_the_standard(network: str, form: str) -> None:
    """ONNX's own reference evaluator, which knows nothing of engines, gives the simulation's output."""
    program = lower(converted(network, "tensorrt", 8))
    model = build(program, form=form, opset=19)  # the oldest that it implements
    x = images(2, seed=4)
    session = reference.ReferenceEvaluator(model)
    (found,) = session.run(None, {"x": x.numpy()})
    want = Simulation(program, integer_bias=model_has_integer_bias(form))(x)
    assert isinstance(want, torch.Tensor)
    worst = float((torch.from_numpy(found) - want).abs().max() / want.abs().max())
    assert worst < 0.02  # a rounding tie somewhere may go the other way


def model_has_integer_bias(form: str) -> bool:
    chosen: Any = forms[form]  # type: ignore[index]
    return bool(chosen.bias == "int32")


def test_the_file_holds_our_integers_biases_and_names(tmp_path: Path) -> None:
    d = converted("basic", "fbgemm", 4)
    (path, *_) = mqbench.export(d, tmp_path / "model.onnx")
    program, model = lower(d), read(path)
    stored = initializers(model)
    for layer in program.layers():
        grid = program.grid(layer.inputs[0])
        assert grid is not None
        weight = stored[f"{layer.name}.weight"]
        assert weight.dtype == np.int8
        assert np.array_equal(weight, layer.weight.integers.numpy())
        assert stored[f"{layer.name}.weight.scale"].shape == (layer.weight.channels,)
        bias = stored[f"{layer.name}.bias"]
        assert bias.dtype == np.int32
        want = integer_bias(layer, grid)
        assert want is not None
        assert np.array_equal(bias, want.numpy())
    names = {name for node in model.graph.node for name in node.output}
    assert {op.name for op in program.operations} <= names
    assert model.graph.input[0].name == "x"
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, [d.dim_value for d in dims[1:]]) == ("batch", [3, 12, 12])
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert {p.key: p.value for p in model.metadata_props}["mqbench.form"] == "onnxruntime"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_narrow_grids_keep_their_values_in_eight_bits() -> None:
    program = lower(converted("basic", "snpe", 3))
    model = build(program, form="onnxruntime")
    values = initializers(model)
    layer = next(op for op in program.layers() if op.name == "blocks.0.a.0")
    assert layer.clip is not None
    low, high = layer.clip
    assert (values[f"{layer.name}.low"], values[f"{layer.name}.high"]) == (low + 128, high + 128)
    assert high - low < 8
    by_output = {node.output[0]: node.op_type for node in model.graph.node}
    assert by_output[layer.name] == "Clip"
    assert by_output[f"{layer.name}.unclipped"] == "QuantizeLinear"


def test_scalars_are_scalars() -> None:
    """ONNX Runtime loses fusions where an activation's scale has shape [1]."""
    values = initializers(build(lower(converted("basic", "fbgemm")), form="onnxruntime"))
    assert values["stem.0.scale"].shape == values["stem.0.zero_point"].shape == ()


def test_the_tensorrt_form() -> None:
    program = lower(converted("inverted", "tensorrt", 4))
    model = build(program, form="tensorrt")
    values = initializers(model)
    kinds = {node.op_type for node in model.graph.node}
    assert "Relu" in kinds or "Clip" in kinds
    assert values["fc.bias"].dtype == np.float32
    zeros = [v for name, v in values.items() if name.endswith("zero_point")]
    assert zeros
    assert not any(v.any() for v in zeros)
    integer = {o for node in model.graph.node for o in node.output if node.op_type == "QuantizeLinear"}
    readers = {node.op_type for node in model.graph.node if set(node.input) & integer}
    assert readers == {"DequantizeLinear"}  # nothing else may touch int8 tensors


@pytest.mark.parametrize(("bits", "clip"), [(8, "Relu"), (4, "Clip")])
def test_a_relu_stays_one_for_tensorrt_where_the_grid_fills_its_container(bits: int, clip: str) -> None:
    """TensorRT joins a convolution with a Relu behind it; QuantizeLinear saturates by itself."""
    model = build(lower(converted("basic", "tensorrt", bits)), form="tensorrt")
    by_output = {node.output[0]: node for node in model.graph.node}
    behind = by_output[by_output["blocks.0.a.0"].input[0]]
    assert behind.op_type == clip


def test_a_form_can_keep_the_quantizer_before_an_add_in_float() -> None:
    program = lower(converted("basic", "fbgemm"))
    plain, kept = build(program, form="openvino"), build(program, form="openvino_kept")
    producers = [{o: node.op_type for node in m.graph.node for o in node.output} for m in (plain, kept)]
    residual = "blocks.0.b.0"
    assert producers[0][residual] == "QuantizeLinear"
    assert producers[1][residual] != "QuantizeLinear"
    assert sum(node.op_type == "Round" for node in kept.graph.node) == 3  # two adds, one with a downsample


@pytest.mark.parametrize("backend", SETTINGS)
def test_each_setting_exports_in_the_form_of_its_library(backend: str, tmp_path: Path) -> None:
    path = mqbench.export(converted("basic", backend), tmp_path / "model.onnx", sidecars=False)[0]
    form = {p.key: p.value for p in read(path).metadata_props}["mqbench.form"]
    assert form == ("tensorrt" if backend == "tensorrt" else "onnxruntime")


@pytest.mark.parametrize("network", NETWORKS)
def test_the_newest_and_the_oldest_opset(network: str) -> None:
    engine = pytest.importorskip("onnxruntime")
    program = lower(converted(network, "fbgemm"))
    x = images(2, seed=4)
    outputs = []
    for opset in (17 if network == "attention" else 13, 21):
        model = build(program, form="onnxruntime", opset=opset)
        assert model.opset_import[0].version == opset
        session = engine.InferenceSession(model.SerializeToString())
        outputs.append(session.run(None, {"x": x.numpy()})[0])
    assert np.array_equal(*outputs)
    assert np.array_equal(outputs[0], np.asarray(mqbench.to_integer(program)(x)))


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    d = converted("basic", "fbgemm")
    for opset in (12, 99, True):
        with pytest.raises(RequestError, match=rf"opset must be from 13 .* got {opset}"):
            mqbench.export(d, tmp_path / "model.onnx", opset=opset)
    with pytest.raises(RequestError, match="layer normalization needs opset 17, got 13"):
        mqbench.export(converted("attention", "fbgemm"), tmp_path / "model.onnx", opset=13)
    with pytest.raises(IncompatibleError, match="form 'tensorrt' takes symmetric"):
        mqbench.export(d, tmp_path / "model.onnx", form="tensorrt")
    wide = converted("basic", "fbgemm", (8, 10), first_last_bits=10)
    with pytest.raises(IncompatibleError, match="activations of 2 to 8 bits, got 10"):
        mqbench.export(wide, tmp_path / "model.onnx")
    with pytest.raises(RequestError, match="unknown form 'onnx'"):
        mqbench.export(d, tmp_path / "model.onnx", form="onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write"):
        mqbench.export(d, tmp_path / "file" / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = mqbench.export(converted("basic", "fbgemm"), tmp_path / "model.onnx")[0]
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a model"):
        path.write_bytes(damaged)
        with pytest.raises(RequestError, match=r"model\.onnx is damaged or no ONNX file"):
            read(path)
    with pytest.raises(RequestError, match=r"cannot read .*missing\.onnx: No such file"):
        read(tmp_path / "missing.onnx")
