"""LiteRT: files of integer networks, and every integer that its two sets of kernels compute from them."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import mqbench
from deployed import converted
from mqbench import cli
from mqbench.backends._base import Overrides
from mqbench.deploy import runtimes
from mqbench.deploy.artifact import Request, make, verify_again
from mqbench.deploy.export import write_sidecar
from mqbench.deploy.lowering import lower
from mqbench.deploy.tflite_file import build
from mqbench.errors import IncompatibleError, RequestError
from networks import images

pytest.importorskip("ai_edge_litert")
ENGINES = ["litert", "litert_reference"]
SYMMETRIC = {"overrides": Overrides(symmetric_weights=True)}


class Corners(nn.Module):
    """What images channel last make hard: paddings of all kinds, groups, a gate, and an image that is flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, (3, 5), padding=(1, 0), groups=2)
        self.c = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.gate, self.fc, self.last = nn.Conv2d(16, 16, 1), nn.Linear(32, 12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.a(x), 2, 1, 1)  # negative values too
        x = nn.functional.relu6(self.c(torch.relu(self.b(x))))
        x = x * nn.functional.relu6(self.gate(x.mean((2, 3), keepdim=True)))
        x = nn.functional.max_pool2d(nn.functional.pad(x, (0, 0, 1, 0)), (4, 2), 5, ceil_mode=True)
        x = torch.relu(self.fc(x.flatten(1)))
        y: Tensor = self.last(x)
        return y


class Tokens(nn.Module):
    """A linear layer over three axes, cut and flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 8, 3, bias=False), nn.Linear(10, 10), nn.Linear(80, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x)).flatten(2)[:, :, 3:13]
        y: Tensor = self.last(torch.relu(self.b(x)).flatten(1))
        return y


CASES: list[tuple[Any, str, int, dict[str, Any]]] = [
    ("basic", "tvm", 8, {}),
    ("inverted", "fbgemm", 8, SYMMETRIC),
    ("concat", "fbgemm", 4, SYMMETRIC),
    ("pooled", "tvm", 8, {}),
    ("halves", "tvm", 4, {}),
    (Corners, "snpe", 8, SYMMETRIC),
    (Corners, "tvm", 3, {}),
    (Tokens, "tvm", 8, {}),
    ("basic", "tensorrt", 8, {}),
    ("squeeze", "acl", 8, {}),
    ("pooled", "acl", 8, {}),
]


def network(net: Any, backend: str, bits: int, options: dict[str, Any]) -> fx.GraphModule:
    if isinstance(net, str):
        return converted(net, backend, bits, **options)
    torch.manual_seed(0)
    return converted(net(), backend, bits, **options)


@pytest.mark.parametrize("runtime", ENGINES)
@pytest.mark.parametrize(("net", "backend", "bits", "options"), CASES)
def test_every_integer_is_that_of_the_reference(
    net: Any, backend: str, bits: int, options: dict[str, Any], runtime: str
) -> None:
    d = network(net, backend, bits, options)
    found = mqbench.verify(d, [images(4, seed=3), images(3, seed=4)], runtime=runtime)
    assert [layer for layer in found.layers if layer.local.max_steps or layer.free.max_steps] == []
    assert found.integer.output.exact_fraction == 1.0
    computed = [
        layer.name for layer in found.layers if "conv" in layer.kind or layer.kind in ("add", "multiply")
    ]
    assert {found.precision(name) for name in (*computed, lower(d).operations[-1].name)} <= {
        "integer",
        "convert",
    }
    by_xnnpack = [
        node for node in found.nodes if node.kind in ("XNNPACK CONV_2D", "XNNPACK DEPTHWISE_CONV_2D")
    ]
    assert bool(by_xnnpack) is (runtime == "litert")


@pytest.mark.parametrize("runtime", ENGINES)
def test_the_other_kernels_round_otherwise(runtime: str) -> None:
    """Power-of-two scales make many halves: the rules are told apart, by one step."""
    d = converted("halves", "tvm", 4)
    (other,) = set(ENGINES) - {runtime}
    rules = runtimes[other].arithmetic  # type: ignore[index]
    names = [layer.name for layer in lower(d).layers()][:-1]
    got = runtimes[runtime].load(lower(d), watch=names).run(images(4))  # type: ignore[index]
    found = mqbench.to_integer(d, arithmetic=rules).local({name: got[name] for name in names}, images(4))
    steps = [int((found[name] - got[name]).abs().max()) for name in names]
    assert max(steps) == 1


@pytest.mark.parametrize("runtime", ENGINES)
def test_pixels_halfway_between_two_integers(runtime: str) -> None:
    pixels = torch.randint(0, 256, (6, 3, 12, 12), generator=torch.Generator().manual_seed(0)).float()
    x = pixels / 127.5 - 1
    torch.manual_seed(0)
    q = mqbench.prepare(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10)), x, backend="snpe",
        algorithm="ptq", bits=8, overrides=SYMMETRIC["overrides"],
    )  # fmt: skip
    mqbench.calibrate(q, [x])
    found = mqbench.verify(mqbench.convert(q), [x], runtime=runtime)
    assert found.layers[0].kind == "quantize"
    assert found.layers[0].local.exact_fraction == found.exact_fraction == 1.0


@pytest.mark.parametrize("runtime", ENGINES)
def test_a_last_convolution_is_float_and_says_so(runtime: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    found = mqbench.verify(converted(net, "tvm"), [images(4)], runtime=runtime)
    assert found.exact_fraction == 1.0
    assert found.sqnr_db > 80
    assert [found.precision(name) for name in ("0", "2")] == ["integer", "float"]


@pytest.mark.parametrize(
    ("net", "backend", "bits", "message"),
    [
        ("basic", "fbgemm", 8, "takes int8 weights without zero points, and stem.0 has integers from"),
        ("basic", "tvm", 16, "activations of 2 to 8 bits, got 16"),
        ("padded", "tvm", 8, "has conv2d and linear; b is conv1d"),
        ("attention", "tvm", 8, "has no aten.transpose"),
    ],
)
def test_what_it_cannot_express_is_refused(net: str, backend: str, bits: int, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        build(lower(converted(net, backend, bits, first_last_bits=bits)))


@pytest.mark.parametrize("backend", ["fbgemm", "snpe"])
def test_weights_with_zero_points_are_cured_by_seven_bits(backend: str) -> None:
    cured = mqbench.cure(converted("inverted", backend), runtime="litert")
    assert cured.applied[0].startswith("zero points of weights: 7-bit weights in")
    found = mqbench.verify(cured.program, [images(4)], runtime="litert")
    assert found.exact_fraction == 1.0


def test_four_bits_with_zero_points_fit_as_they_are() -> None:
    d = converted("basic", "fbgemm", 4, first_last_bits=4)
    found = mqbench.verify(d, [images(4)], runtime="litert")
    assert found.exact_fraction == 1.0


def test_weights_of_minus_128_are_named() -> None:
    found = mqbench.verify(converted("basic", "tvm"), [images(2)], runtime="litert")
    (note,) = found.notes
    assert note.startswith("weights of -128")


def test_the_file_is_the_artifact_and_is_what_is_verified(tmp_path: Path) -> None:
    program, x = lower(converted("basic", "tvm")), images(4)
    request = Request(folder=tmp_path / "out", runtime="litert")
    certificate = make(program, [x], [x[:2]], request, network={})
    assert "model.tflite" in certificate["files"]
    assert certificate["missed"] == []
    agreement, missed = verify_again(tmp_path / "out")
    assert (agreement.exact_fraction, missed) == (1.0, [])
    # another network's file is seen through
    torch.manual_seed(1)
    other = lower(converted("basic", "tvm", bits=4))
    path = write_sidecar(other, "litert", tmp_path / "other.onnx")
    assert mqbench.verify(program, [x], runtime="litert", file=path).exact_fraction < 1


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    program = lower(converted("basic", "tvm"))
    path = write_sidecar(program, "litert", tmp_path / "model.onnx")
    content = path.read_bytes()
    for damaged in (b"nonsense", content[:100], content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(RequestError, match=r"tflite|litert"):
            runtimes["litert"].load(program, path)  # type: ignore[index]


def test_a_missing_engine_is_named_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, x = lower(converted("basic", "tvm")), images(4)
    monkeypatch.chdir(tmp_path)
    make(program, [x], [x], Request(folder=Path("out"), runtime="litert"), network={})
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(RequestError, match=r"pip install 'mqbench\[litert\]'"):
        build(program)
    for command in (
        "quantize digits_resnet --dataset digits --backend tvm --runtime litert --export new",
        "verify out",
        "latency resnet18 --runtime litert",
    ):
        assert cli.main(command.split()) == 2
        assert "pip install 'mqbench[litert]'" in capsys.readouterr().err
