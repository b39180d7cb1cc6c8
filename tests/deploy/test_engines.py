"""OpenVINO, PyTorch's x86 kernels and TVM against the integer reference, their faults and their cures."""

import builtins
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from deployed import converted
from mqbench.deploy import runtimes
from mqbench.deploy.agreement import Agreement
from mqbench.deploy.lowering import lower
from mqbench.deploy.requirement import Requirement
from mqbench.errors import IncompatibleError, RequestError
from networks import Basic, images, trained
from processes import environment

ENGINES = {  # whose module may be missing
    "openvino": "openvino",
    "tvm": "tvm",
    "qnn": "onnxruntime_qnn",
    "litert": "ai_edge_litert",
    "litert_reference": "ai_edge_litert",
}
CASES = [
    ("basic", "fbgemm", 8, "torch_fbgemm"),
    ("basic", "fbgemm", 4, "torch_x86"),
    ("concat", "snpe", 8, "torch_fbgemm"),
    ("inverted", "tvm", 8, "torch_onednn"),
    ("basic", "tensorrt", 8, "torch_onednn"),
    ("squeeze", "acl", 8, "torch_x86"),
    ("halves", "tvm", 8, "torch_onednn"),
    ("padded", "snpe", 8, "torch_fbgemm"),
    ("squeeze", "fbgemm", 8, "torch_x86"),
    ("basic", "tvm", 8, "openvino"),
    ("basic", "tensorrt", 8, "openvino"),
    ("squeeze", "acl", 8, "openvino"),
    ("concat", "fbgemm", 4, "openvino"),
    pytest.param("basic", "tvm", 8, "tvm", marks=pytest.mark.slow),
    pytest.param("inverted", "fbgemm", 4, "tvm", marks=pytest.mark.slow),  # TVM takes its time to compile
    pytest.param("concat", "snpe", 8, "tvm", marks=pytest.mark.slow),
    pytest.param("squeeze", "acl", 8, "tvm", marks=pytest.mark.slow),
    pytest.param("halves", "tensorrt", 8, "tvm", marks=pytest.mark.slow),
]


def engine(name: str) -> Any:
    if name in ENGINES:
        pytest.importorskip(ENGINES[name])
    return runtimes[name]  # type: ignore[index]


def verified(network: Any, runtime: str, **options: Any) -> Agreement:
    engine(runtime)
    return mqbench.verify(network, [images(4, seed=3)], runtime=runtime, **options)


@pytest.mark.parametrize(("net", "backend", "bits", "runtime"), CASES)
def test_layer_by_layer_within_one_step(net: str, backend: str, bits: int, runtime: str) -> None:
    found = verified(converted(net, backend, bits), runtime)
    for layer in found.layers:
        assert layer.local.max_steps <= 1, layer
        assert layer.local.count - layer.local.equal <= max(1, layer.local.count // 1000), layer
    integers = [layer.name for layer in found.layers if layer.kind in ("conv2d", "linear")]
    assert integers
    if backend in ("tvm", "tensorrt", "acl") or runtime != "openvino":
        assert {found.precision(name) for name in integers} == {"integer"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "runtime"),
    [
        ("fbgemm", "torch_fbgemm"),
        ("snpe", "torch_fbgemm"),
        ("fbgemm", "torch_x86"),
        ("tensorrt", "torch_onednn"),
        ("acl", "torch_onednn"),
        ("tensorrt", "openvino"),
        ("acl", "openvino"),
        ("tvm", "openvino"),
        ("snpe", "tvm"),
        ("tvm", "litert"),
        ("fbgemm", "litert_reference"),
        ("tensorrt", "litert"),
        ("acl", "litert_reference"),
        ("acl", "tvm"),
    ],
)
@pytest.mark.parametrize(
    "architecture", ["resnet18", "resnet50", "mobilenetv2_100", "tf_efficientnet_lite0", "regnetx_006"]
)
def test_every_architecture(architecture: str, backend: str, runtime: str) -> None:
    timm = pytest.importorskip("timm")
    engine(runtime)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    q = mqbench.prepare(
        trained(timm.create_model(architecture, pretrained=False)),
        x,
        backend=backend,
        algorithm="ptq",
        bits=8,
    )
    mqbench.calibrate(q, [x])
    cured = mqbench.cure(mqbench.convert(q), runtime=runtime)
    found = mqbench.verify(cured.program, [torch.randn_like(x)], runtime=runtime, options=cured.options)
    bar = Requirement.parse("auto", cured.program, exact_engine=not engine(runtime).one_step)
    assert not bar.missed(found, {})


@pytest.mark.parametrize("runtime", ["torch_fbgemm", pytest.param("tvm", marks=pytest.mark.slow)])
def test_whole_networks_are_exact(runtime: str) -> None:
    """The arithmetic that these runtimes state is the engine's own, rounding for rounding."""
    found = verified(converted("basic", "fbgemm"), runtime)
    assert found.exact_fraction == 1.0
    assert found.sqnr_db > 100


@pytest.mark.parametrize("backend", ["tvm", "snpe"])
def test_the_lowering_to_relax_is_exact(backend: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    found = verified(converted(net, backend), "tvm")
    assert found.exact_fraction == found.integer.output.exact_fraction == 1.0
    assert {found.precision(name) for name in ("0", "2")} == {"integer"}


def test_the_arithmetic_of_fbgemm_is_not_that_of_onnxruntime() -> None:
    """Of 20,000 integers some differ when the bias is rounded to int32, none when it is not."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1))
    d = converted(net, "fbgemm", first_last_bits=8)
    x = torch.randn(16, 3, 12, 12)
    program = lower(d)
    session = engine("torch_fbgemm").load(program, watch=["0"])
    got = session.run(x)["0"]
    own = mqbench.to_integer(d, arithmetic=engine("torch_fbgemm").arithmetic).values(x)["0"]
    other = mqbench.to_integer(d).values(x)["0"]
    assert got.numel() > 20_000
    assert torch.equal(got, own)
    assert 0 < int((got != other).sum()) < got.numel() // 100
    assert int((got - other).abs().max()) == 1


@pytest.mark.parametrize("runtime", ["openvino", "torch_onednn"])
def test_pixels_halfway_between_two_integers_turn_as_the_engine_turns_them(runtime: str) -> None:
    """Images whose pixels are k + 1/2 steps: what rounds before and after the zero point parts on half of them."""
    pixels = torch.randint(0, 256, (6, 3, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    x = pixels / 127.5 - 1
    x[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1))
    q = mqbench.prepare(net, x, backend="acl", algorithm="ptq", bits=8)
    mqbench.calibrate(q, [x])
    program = lower(mqbench.convert(q))
    (name,) = (
        op.name for op in program.operations if op.kind == "quantize" and op.inputs[0] in program.inputs
    )
    got = engine(runtime).load(program, watch=[name]).run(x)[name]
    own = mqbench.to_integer(program, arithmetic=engine(runtime).arithmetic).values(x)[name]
    assert torch.equal(got, own)
    by_division = mqbench.to_integer(program).values(x)[name]
    assert (int((got != by_division).sum()) > got.numel() // 4) is (runtime == "openvino")


# -- FBGEMM's depthwise kernels -------------------------------------------------------------------------


def saturating(channels: int, padding: int) -> nn.Module:
    """A depthwise layer whose products are about as large as they can be."""
    layer = nn.Conv2d(channels, channels, 3, padding=padding, groups=channels, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.where(torch.rand_like(layer.weight) < 0.5, -1.0, 0.8))
    return nn.Sequential(nn.Conv2d(3, channels, 1), nn.ReLU(), layer, nn.ReLU(), nn.Conv2d(channels, 4, 1))


@pytest.mark.parametrize(
    ("runtime", "channels", "backend", "saturates", "padding"),
    [
        ("torch_fbgemm", 8, "tvm", True, 1),
        ("torch_fbgemm", 8, "tvm", False, 0),  # its kernel pads by half its size
        ("torch_fbgemm", 12, "tvm", False, 1),  # no multiple of 8: another kernel
        ("torch_x86", 8, "tvm", False, 1),  # symmetric weights go to oneDNN
        ("torch_x86", 104, "tvm", True, 1),  # but not of more than 100 groups
        ("torch_x86", 8, "snpe", True, 1),
    ],
)
def test_saturation_is_found_named_and_cured(
    runtime: str, channels: int, backend: str, saturates: bool, padding: int
) -> None:
    torch.manual_seed(0)
    d = converted(saturating(channels, padding), backend)
    found = verified(d, runtime)
    worst = max(layer.local.max_steps for layer in found.layers)
    note = next((n for n in found.notes if n.startswith("saturating depthwise kernels")), "")
    assert (worst > 1) is saturates
    assert ("concerns 2; seen in 1" in note) is saturates
    cured = mqbench.cure(d, runtime=runtime)
    again = verified(cured.program, runtime, options=cured.options)
    assert bool(cured.applied) is saturates
    assert max(layer.local.max_steps for layer in again.layers) <= 1
    assert not any("saturating" in note for note in again.notes)


# -- OpenVINO --------------------------------------------------------------------------------------------


def test_openvino_drops_a_quantizer_and_the_other_form_keeps_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), Basic(32, 32), nn.Conv2d(32, 8, 3))
    d = converted(trained(net), "tvm")
    plain = verified(d, "openvino")
    assert any("in one kernel, without the quantizer" in note for note in plain.notes)
    assert any(note.startswith("dropped quantizer") for note in plain.notes)
    cured = mqbench.cure(d, runtime="openvino")
    assert cured.options == {"form": "openvino_kept"}
    kept = verified(cured.program, "openvino", options=cured.options)
    assert not any("quantizer" in note for note in kept.notes)
    assert kept.sqnr_db > plain.sqnr_db
    assert kept.integer.output.max_difference < plain.integer.output.max_difference
    # still one integer kernel: the arithmetic is fused into the convolution
    node = next(n for n in kept.nodes if "2.add" in n.operations)
    assert "2.b.0" in node.operations
    assert node.precision == "integer"


def test_openvino_pads_average_pools_with_the_wrong_integer() -> None:
    d = converted("pooled", "tvm")
    plain = verified(d, "openvino")
    (pool,) = (layer for layer in plain.layers if layer.kind == "pool")
    assert pool.local.max_steps > 1
    assert any(note.startswith("padded average pool") and "seen in 1" in note for note in plain.notes)
    cured = mqbench.cure(d, runtime="openvino")
    again = verified(cured.program, "openvino", options=cured.options)
    assert max(layer.local.max_steps for layer in again.layers) <= 1


def test_openvino_runs_asymmetric_weights_in_float_and_says_so() -> None:
    found = verified(converted("basic", "fbgemm"), "openvino")
    assert any(note.startswith("float weights") for note in found.notes)
    assert found.precision("blocks.0.a.0") == "float"


def test_a_form_that_the_engine_does_not_read() -> None:
    with pytest.raises(
        RequestError, match="openvino reads the forms openvino, openvino_kept, got 'tensorrt'"
    ):
        engine("openvino").load(lower(converted("basic", "tvm")), options={"form": "tensorrt"})


# -- Qualcomm's HTP, emulated ---------------------------------------------------------------------------


def test_qnn_computes_the_setting_of_snpe() -> None:
    found = verified(converted("basic", "snpe"), "qnn")
    assert max(layer.local.max_steps for layer in found.layers) <= 2
    assert min(layer.local.exact_fraction for layer in found.layers) > 0.8
    assert {found.precision(x.name) for x in found.layers if x.kind in ("conv2d", "add")} == {"integer"}
    assert not any(note.startswith("dropped ReLU") for note in found.notes)
    (last,) = (node for node in found.nodes if "fc" in node.operations and node.kind.endswith("Gemm"))
    assert last.precision == "float"  # its output has no quantizer


def test_qnn_drops_a_relu_and_it_is_found() -> None:
    found = verified(converted("concat", "tvm"), "qnn")
    (note,) = (note for note in found.notes if note.startswith("dropped ReLU"))
    assert "seen in" in note


def test_qnn_refuses_zero_points_of_channels() -> None:
    engine("qnn")
    with pytest.raises(RequestError, match="qnn"):
        verified(converted("basic", "fbgemm"), "qnn")


# -- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "backend", "bits", "runtime", "message"),
    [
        ("basic", "snpe", 8, "torch_onednn", "takes symmetric weights"),
        ("basic", "acl", 8, "torch_fbgemm", "graph 1 leaves the output of stem.0 in float"),
        ("pooled", "snpe", 8, "tvm", "has no pool"),
        ("basic", "fbgemm", 16, "torch_fbgemm", "up to 8 bits"),
    ],
)
def test_networks_that_an_engine_cannot_take(
    net: str, backend: str, bits: int, runtime: str, message: str
) -> None:
    program = lower(converted(net, backend, bits))
    with pytest.raises(IncompatibleError, match=message):
        engine(runtime).load(program)


@pytest.mark.parametrize("name", ["openvino", "tvm"])
def test_a_missing_engine_is_named_with_its_install_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, runtime = builtins.__import__, engine(name)

    def refuse(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.partition(".")[0] == name:
            raise ImportError(f"No module named {module!r}")
        return real(module, *args, **kwargs)

    monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.setattr("importlib.import_module", lambda module: refuse(module))
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RequestError, match=rf"pip install 'mqbench\[{name}\]'"):
        runtime.require()


def test_torch_engine_is_put_back() -> None:
    before = torch.backends.quantized.engine
    verified(converted("basic", "fbgemm"), "torch_fbgemm")
    assert torch.backends.quantized.engine == before


GOING = """
import os, signal, subprocess, sys
from deployed import converted
from mqbench.deploy import runtimes
from mqbench.deploy.lowering import lower
program = lower(converted("basic", "tvm", 8))
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        sessions = [runtimes[name].load(program) for _ in range(2)]
        while sessions:
            del sessions[0]
        subprocess.run([sys.executable, "-c", ""])
        os._exit(0)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_signals_find_their_stack_when_sessions_are_gone() -> None:
    names = ["onnxruntime", "openvino", "torch_x86", "litert"]
    for name in names:
        engine(name)
    done = subprocess.run(
        [sys.executable, "-c", GOING, *names],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{name} 0" for name in names]
