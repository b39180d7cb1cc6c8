"""Sidecars: what they say is what the network computes, and a file that is not of the format is refused."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mqbench
from deployed import converted
from mqbench.deploy import exporters, quantized_network, runtimes
from mqbench.deploy.export import write_sidecar
from mqbench.deploy.exporters._base import Exporter
from mqbench.deploy.float_program import float_network
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Program
from mqbench.deploy.simulation import Simulation
from mqbench.errors import IncompatibleError, RequestError
from networks import images


def exporter(name: str) -> Exporter:
    found: Exporter = exporters[name]  # type: ignore[index]
    return found


def written(
    name: str, backend: str, folder: Path, network: str = "basic", bits: int = 8
) -> tuple[Program, Path]:
    program = lower(converted(network, backend, bits))
    return program, write_sidecar(program, name, folder / "model.onnx")


def test_float_network_is_the_network_without_quantizers() -> None:
    for network in ("basic", "inverted", "concat", "padded"):
        d = converted(network, "fbgemm")
        program = lower(d)
        plain = float_network(program)
        assert not plain.program.integer_values()
        for name, module in list(d.named_modules()):
            if type(module).__name__ == "DeployedQuantizer":
                d.set_submodule(name, torch.nn.Identity())
        x = images(3)
        torch.testing.assert_close(Simulation(plain.program)(x), d(x), rtol=1e-4, atol=1e-5)
        assert set(plain.names) >= set(program.values)


@pytest.mark.parametrize(("backend", "bits"), [("snpe", 8), ("snpe", 4), ("fbgemm", 8), ("tvm", 8)])
def test_encodings_give_the_values_of_the_network(backend: str, bits: int, tmp_path: Path) -> None:
    program, path = written("snpe", backend, tmp_path, bits=bits)
    text = json.loads(path.read_text())
    assert path.name == "model.encodings"
    activations = {entry["name"]: entry for entry in text["activation_encodings"]}
    network = float_network(program)
    for name, value in program.values.items():
        if value.grid is not None:
            entry = activations[network.names[name]]
            codes = torch.arange(2 ** entry["bw"])
            real = (codes + entry["offset"][0]).float() * torch.tensor(entry["scale"][0])
            integers = codes + value.grid.scheme.quant_min
            torch.testing.assert_close(real, value.grid.dequantize(integers), rtol=0, atol=0)
    parameters = {entry["name"]: entry for entry in text["param_encodings"]}
    for layer in program.layers():
        entry = parameters[network.weights[layer.name]]
        weight = layer.weight
        code = weight.integers.to(torch.int32) - weight.scheme.quant_min
        shape = [-1] + [1] * (code.dim() - 1) if weight.scale.dim() else []
        scale, offset = (torch.tensor(entry[field]).reshape(shape) for field in ("scale", "offset"))
        assert entry["enc_type"] == ("PER_CHANNEL" if weight.scale.dim() else "PER_TENSOR")
        torch.testing.assert_close((code + offset) * scale, weight.dequantize(), rtol=0, atol=0)


def test_encodings_and_records_name_what_the_float_file_has(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    program = lower(converted("basic", "snpe"))
    paths = mqbench.export(program, tmp_path / "model.onnx")
    assert [path.name for path in paths] == ["model.onnx", "model.float.onnx", "model.encodings"]
    graph = onnx.load(str(tmp_path / "model.float.onnx")).graph
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    text = json.loads((tmp_path / "model.encodings").read_text())
    named = {entry["name"] for group in ("activation_encodings", "param_encodings") for entry in text[group]}
    assert named <= tensors
    records = mqbench.export(lower(converted("basic", "acl")), tmp_path / "acl.onnx")
    keys = re.findall(r'key: "(.+)"', next(p for p in records if p.suffix == ".txt").read_text())
    layers = {node.name for node in onnx.load(str(tmp_path / "acl.float.onnx")).graph.node}
    assert keys
    assert set(keys) <= layers


def test_one_tensor_with_two_grids_has_no_encoding(tmp_path: Path) -> None:
    d = converted("inverted", "acl")
    twice = converted("basic", "snpe", graph=1)  # block input: one grid for the branch, one for the shortcut
    for network in (d, twice):
        program = lower(network)
        grids: dict[str, set[float]] = {}
        names = float_network(program).names
        for name, value in program.values.items():
            if value.grid is not None:
                grids.setdefault(names[name], set()).add(value.grid.scale)
        if any(len(found) > 1 for found in grids.values()):
            with pytest.raises(IncompatibleError, match="has several; prepare with graph=3"):
                write_sidecar(program, "snpe", tmp_path / "m.onnx")


def test_amct_record(tmp_path: Path) -> None:
    program, path = written("acl", "acl", tmp_path)
    text = path.read_text()
    layer = next(iter(program.layers()))
    grid = program.grid(layer.inputs[0])
    assert grid is not None
    block = text[text.index(f'key: "{layer.name}"') :].split("record {")[0]
    assert f"scale_d: {grid.scale!r}" in block
    assert f"offset_d: {grid.zero_point}" in block
    assert [float(v) for v in re.findall(r"scale_w: (\S+)", block)] == layer.weight.scale.tolist()
    assert re.findall(r"offset_w: (\S+)", block) == ["0"] * layer.weight.channels
    with pytest.raises(IncompatibleError, match="symmetric weights only"):
        written("acl", "snpe", tmp_path / "other")


ALONE = """
import sys

import torch
from safetensors.torch import load_file, save_file

from quantized_network import load

x = load_file("x.safetensors")["x"]
save_file({"y": load("model.fbgemm.safetensors")(x)}, "y.safetensors")
assert not [name for name in sys.modules if name.partition(".")[0] == "mqbench"]
"""


def test_fbgemm_artifact_runs_without_this_package(tmp_path: Path) -> None:
    """A folder, torch and safetensors are all that it takes; nothing is unpickled."""
    program, path = written("fbgemm", "fbgemm", tmp_path, "inverted", 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.fbgemm.safetensors", "quantized_network.py"]
    x = images(3)
    save_file({"x": x}, str(tmp_path / "x.safetensors"))
    (tmp_path / "alone.py").write_text(ALONE)
    blocker = tmp_path / "mqbench"  # so that an installed package would not be found either
    blocker.mkdir()
    (blocker / "__init__.py").write_text("raise ImportError('mqbench must not be needed')")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "alone.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    got = load_file(str(tmp_path / "y.safetensors"))["y"]
    expected = runtimes["torch_fbgemm"].load(program).run(x)["fc"]  # type: ignore[index]
    assert torch.equal(got, expected)
    reference = mqbench.to_integer(program)
    torch.testing.assert_close(got, reference(x), rtol=1e-2, atol=1e-2)
    assert mqbench.verify(program, [x], runtime="torch_fbgemm").exact_fraction == 1.0
    with pytest.raises(ValueError, match="no quantized engine 'cuda'"):
        quantized_network.load(path, engine="cuda")
    network = quantized_network.load(path)
    for inputs, sentence in (
        ((x[:, :1],), r"^input x must have shape \(batch, 3, 12, 12\), got \(3, 1, 12, 12\)$"),
        ((x.double(),), r"^input x must be a torch.float32 tensor on cpu, got torch.float64 on cpu$"),
        ((x, x), r"^the network takes 1 input tensors, got 2$"),
    ):
        with pytest.raises(ValueError, match=sentence):
            network(*inputs)


@pytest.mark.slow
def test_relax_artifact_reads_back_and_runs(tmp_path: Path) -> None:
    tvm = pytest.importorskip("tvm")
    from mqbench.deploy.exporters.tvm import load

    program, path = written("tvm", "tvm", tmp_path)
    module, parameters = load(path)
    machine = tvm.relax.VirtualMachine(tvm.relax.build(module, target="llvm"), tvm.cpu())
    x = images(3)
    arrays = [tvm.runtime.tensor(a) for a in (x.numpy(), *parameters.values())]
    got = torch.from_numpy(machine["main"](*arrays)[0].numpy())
    assert torch.equal(got, mqbench.to_integer(program)(x))


@pytest.mark.slow
def test_a_changed_relax_artifact_is_what_is_verified(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    from safetensors import safe_open

    from mqbench.deploy.exporters.tvm import parameters_of

    program, path = written("tvm", "tvm", tmp_path)
    first = next(program.layers()).name
    with safe_open(str(path), framework="pt") as file:
        header = file.metadata()
    tensors = load_file(str(path))
    save_file(tensors | {f"{first}.bias": tensors[f"{first}.bias"] ^ 4096}, str(path), metadata=header)
    difference = mqbench.verify(program, [images(2)], runtime="tvm", file=path).first_difference
    assert difference is not None
    assert difference.name == first
    other, _ = written("tvm", "tvm", tmp_path, "inverted")
    save_file(tensors, str(path), metadata=header)
    with pytest.raises(RequestError, match="not the lowering of this network"):
        parameters_of(other, path)


def _json(change: Callable[[dict[str, list[dict[str, object]]]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        text = json.loads(path.read_text())
        change(text)
        path.write_text(json.dumps(text))

    return damage


def _text(old: str, new: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_text(re.sub(old, new, path.read_text(), count=1))

    return damage


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


@pytest.mark.parametrize(
    ("name", "backend", "damage", "message"),
    [
        ("snpe", "snpe", _json(lambda t: t.update(version=[])), "version must be '1.0.0'"),
        ("snpe", "snpe", _json(lambda t: t["param_encodings"][0].update(offset=[1])), "an offset outside"),
        ("snpe", "snpe", _json(lambda t: t["param_encodings"][0].update(scale=[0.0])), "not positive"),
        ("snpe", "snpe", _json(lambda t: t["activation_encodings"][0].pop("bw")), "exactly the fields"),
        ("snpe", "snpe", _json(lambda t: t["activation_encodings"][0].update(name="zz")), "no tensor 'zz'"),
        ("snpe", "snpe", _text("{", "["), "is not JSON"),
        ("acl", "acl", _text("offset_w: 0", "offset_w: 1"), "not a list of quantization factor records"),
        ("acl", "acl", _text("offset_d: -?\\d+", "offset_d: 300"), "outside int8"),
        ("acl", "acl", _text("    scale_w: .*\\n", ""), "scales and"),
        ("acl", "acl", _text('key: ".*"', 'key: "zz"'), "but not both"),
        (
            "tensorrt",
            "tensorrt",
            _bytes(lambda whole: whole[:-40]),
            "damaged|missing|must",
        ),
        ("fbgemm", "fbgemm", _bytes(lambda whole: whole[: len(whole) // 2]), "holds no quantized network"),
    ],
)
def test_files_that_are_not_of_the_format(
    name: str, backend: str, damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    if exporter(name).extra == "onnx":
        pytest.importorskip("onnx")
    program, path = written(name, backend, tmp_path)
    exporter(name).check(program, path)
    damage(path)
    with pytest.raises(RequestError, match=message):
        exporter(name).check(program, path)


def test_tensorrt_file_has_explicit_quantizers_with_zero_points_of_zero(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    program, path = written("tensorrt", "tensorrt", tmp_path)
    model = onnx.load(str(path))
    zero = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("zero_point"))
    zero.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(zero) + 1, zero.name))
    onnx.save(model, str(path))
    with pytest.raises(RequestError, match="int8 zero points of 0"):
        exporter("tensorrt").check(program, path)
    with pytest.raises(IncompatibleError):
        written("tensorrt", "snpe", tmp_path / "other")
