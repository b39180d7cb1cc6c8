"""The proof: a real engine, the integer reference and the simulation on the same batches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import mqbench
from deployed import NETWORKS, SETTINGS, WHOLE, converted
from mqbench.deploy import runtimes
from mqbench.deploy.agreement import Match
from mqbench.deploy.arithmetic import Arithmetic
from mqbench.deploy.bisection import bisect
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Program
from mqbench.deploy.requirement import Requirement
from mqbench.deploy.runtimes._base import Fault, Node, Runtime, Session
from mqbench.errors import RequestError, UnknownNameError
from networks import images, trained

pytest.importorskip("onnxruntime")
ARCHITECTURES = ["resnet18", "resnet50", "mobilenetv2_100", "tf_efficientnet_lite0", "regnetx_006"]


def network(architecture: str, backend: str, bits: int = 8, size: int = 64) -> tuple[fx.GraphModule, Tensor]:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = trained(timm.create_model(architecture, pretrained=False))
    x = torch.randn(2, 3, size, size)
    q = mqbench.prepare(model, x, backend=backend, algorithm="ptq", bits=bits)
    mqbench.calibrate(q, [x])
    return mqbench.convert(q), torch.randn(2, 3, size, size)


def check(d: fx.GraphModule, batches: Sequence[Any], backend: str) -> None:
    found = mqbench.verify(d, batches)
    if backend in WHOLE:
        assert found.exact_fraction == 1.0
        assert found.max_steps == found.top1_flips == 0
        assert found.integer.output.exact_fraction == 1.0
        assert found.first_difference is None
    assert all(layer.local.max_steps <= 1 for layer in found.layers)
    for match in (layer.local for layer in found.layers):  # one integer is more than 0.1 % of a small tensor
        assert match.count - match.equal <= max(1, match.count // 1000)
    assert all(layer.simulation.max_steps <= 1 for layer in found.layers) or backend == "acl"


@pytest.mark.parametrize("backend", SETTINGS)
@pytest.mark.parametrize(("net", "bits"), [*((net, 8) for net in NETWORKS), ("basic", 4), ("concat", 2)])
def test_onnxruntime_computes_the_integer_network(net: str, backend: str, bits: int) -> None:
    d = converted(net, backend, bits)
    check(d, [images(4, seed=3), images(1, seed=4)], backend)


@pytest.mark.parametrize("backend", ["fbgemm", "acl"])
def test_adaptive_pools_of_equal_windows(backend: str) -> None:
    torch.manual_seed(0)
    pools = nn.AdaptiveAvgPool2d((5, 1)), nn.AdaptiveAvgPool2d(4)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), pools[0], nn.Flatten(), nn.Linear(40, 4))
    check(converted(net, backend), [images(4, seed=3)], backend)
    with pytest.raises(
        RequestError, match=r"adaptive pooling of \(10, 10\) to \(4, 4\) has overlapping windows"
    ):
        mqbench.verify(converted(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), pools[1]), backend), [images()])


@pytest.mark.parametrize(("architecture", "backend"), [("mobilenetv2_100", "tvm"), ("resnet18", "fbgemm")])
def test_whole_architectures(architecture: str, backend: str) -> None:
    d, x = network(architecture, backend)
    check(d, [x], backend)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("backend", SETTINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_in_every_setting(architecture: str, backend: str, bits: int) -> None:
    d, x = network(architecture, backend, bits, size=96)
    check(d, [x], backend)


def test_what_the_engine_ran_is_told() -> None:
    found = mqbench.verify(converted("basic", "fbgemm"), [images()])
    program = lower(converted("basic", "fbgemm"))
    computed = [op.name for op in program.operations if op.kind in ("conv2d", "linear", "add", "globalpool")]
    assert {found.precision(name) for name in computed} == {"integer"}
    assert {"QLinearConv", "QLinearAdd", "QGemm"} <= {node.kind for node in found.nodes}
    islands = mqbench.verify(converted("basic", "tensorrt"), [images()])
    assert islands.precision("blocks.0.b.0") == islands.precision("blocks.0.add") == "float"
    assert islands.precision("blocks.0.a.0") == "integer"
    plain = mqbench.verify(converted("basic", "fbgemm"), [images()], options={"optimization": "none"})
    assert plain.precision("stem.0") == "float"  # nothing is fused: the file's own nodes run
    assert plain.version == found.version
    assert plain.options == {"optimization": "none", "without": ""}


def test_labels_give_accuracies() -> None:
    d = converted("basic", "fbgemm")
    x = images(8, seed=9)
    labels = mqbench.to_integer(d)(x).argmax(1)
    found = mqbench.verify(d, [(x[:4], labels[:4]), (x[4:], labels[4:])])
    assert found.images == 8
    assert found.accuracy["integer"] == found.accuracy["engine"] == 100.0
    assert found.accuracy["simulated"] >= 50
    assert mqbench.verify(d, [x]).accuracy == {}


def test_an_exported_file_is_what_is_verified(tmp_path: Path) -> None:
    d = converted("basic", "fbgemm")
    path = mqbench.export(d, tmp_path / "model.onnx")[0]
    assert mqbench.verify(d, [images()], file=path).exact_fraction == 1.0
    other = converted("basic", "fbgemm", 4)
    assert mqbench.verify(other, [images()], file=path).exact_fraction < 1.0


# -- an engine with a fault of its own ------------------------------------------------------------------


class _Faulty(Session):
    """ONNX Runtime with one tensor, and all that follows, computed from other weights."""

    def __init__(
        self,
        program: Program,
        file: Path | None,
        threads: int,
        watch: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        broken = list(program.operations)
        place = [op.name for op in broken].index("blocks.0.b.0")
        layer: Any = broken[place]
        integers = layer.weight.integers.clone()
        integers[1] = -integers[1]
        broken[place] = replace(layer, weight=replace(layer.weight, integers=integers))
        engine: Runtime = runtimes["onnxruntime"]  # type: ignore[index]
        self.session = engine.load(replace(program, operations=tuple(broken)), threads=threads, watch=watch)

    def run(self, *inputs: Tensor) -> dict[str, Tensor]:
        return self.session.run(*inputs)

    def nodes(self) -> list[Node]:
        return self.session.nodes()


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    from mqbench.deploy.runtimes import onnxruntime as module

    fault = Fault(
        name="turned", about="a channel is turned", cure="none", concerns=lambda _: ["blocks.0.b.0"]
    )
    engine = replace(module.RUNTIME, open=_Faulty, form="", faults=(fault,))
    monkeypatch.setattr(module, "RUNTIME", engine)
    original = replace(engine, open=module.OnnxSession, form="onnxruntime")
    monkeypatch.setattr(_Faulty, "__init__", _with_engine(_Faulty.__init__, original))
    return "onnxruntime"


def _with_engine(init: Any, original: Runtime) -> Any:
    def wrapped(self: Any, *args: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            from mqbench.deploy.runtimes import onnxruntime as module

            patch.setattr(module, "RUNTIME", original)
            init(self, *args)

    return wrapped


def test_a_fault_is_found_where_it_is(faulty: str) -> None:
    d = converted("basic", "fbgemm")
    found = mqbench.verify(d, [images()], runtime=faulty)
    first = found.first_difference
    assert first is not None
    assert (first.name, first.kind) == ("blocks.0.b.0", "conv2d")
    layers = {layer.name: layer for layer in found.layers}
    assert layers["blocks.0.add"].free.max_steps > 0  # it carries on ...
    assert layers["blocks.0.add"].local.max_steps == 0  # ... but is not blamed for it
    (note,) = [note for note in found.notes if note.startswith("turned: a channel is turned")]
    assert "concerns blocks.0.b.0; seen in 1, by up to" in note
    assert note.endswith("cure: none")
    halved = bisect(d, images(), runtime=faulty)
    assert halved is not None
    assert halved.name == "blocks.0.b.0"


class Branches(torch.nn.Module):
    """A short branch and a long one, in whose middle halving starts."""

    def __init__(self) -> None:
        super().__init__()
        self.short = torch.nn.Conv2d(3, 4, 1)
        self.long = torch.nn.Sequential(*(torch.nn.Conv2d(3 if i == 0 else 4, 4, 1) for i in range(4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.short(x) + self.long(x)) * 2


def altered_engine(
    monkeypatch: pytest.MonkeyPatch, program: Program, name: str, change: Callable[[Tensor], Tensor]
) -> None:
    """ONNX Runtime from now on computes the network with other integers in the weight of one layer."""
    from mqbench.deploy.runtimes import onnxruntime as module

    (layer,) = (op for op in program.layers() if op.name == name)
    weight = replace(layer.weight, integers=change(layer.weight.integers))
    altered = replace(
        program,
        operations=tuple(replace(layer, weight=weight) if op is layer else op for op in program.operations),
    )
    sound = module.RUNTIME

    def load(_: Any, file: Any, threads: int, watch: Any, options: Any) -> Any:
        return sound.load(altered, file, threads=threads, watch=watch, options=options)

    monkeypatch.setattr(module, "RUNTIME", replace(sound, open=load, form=""))


def test_bisect_names_the_layer_of_a_branch_that_halving_passes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images()
    q = mqbench.prepare(Branches(), x, backend="fbgemm", algorithm="ptq", bits=8)
    mqbench.calibrate(q, [x])
    program = lower(mqbench.convert(q))
    altered_engine(monkeypatch, program, "short", lambda integers: integers // 2)
    found = bisect(program, x)
    assert found is not None
    assert (found.name, found.kind) == ("short", "conv2d")


def test_the_last_bit_of_a_layer_with_float_output_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    program, x = lower(converted("basic", "fbgemm")), images()
    (last,) = (op.name for op in program.layers() if op.name in program.outputs)
    sound = mqbench.verify(program, [x])
    assert [layer.name for layer in sound.outputs] == [last]
    assert sound.first_difference is None

    def flip(integers: Tensor) -> Tensor:
        flipped = integers.clone()
        flipped[0] ^= 1
        return flipped

    altered_engine(monkeypatch, program, last, flip)
    found = mqbench.verify(program, [x])
    assert found.exact_fraction == 1.0  # no integer tensor shows it
    assert found.first_difference is not None
    assert found.first_difference.name == last
    (missed,) = Requirement(exact=1.0).missed(found, {})
    assert missed.startswith(f"{last} (linear, float output): ")
    halved = bisect(program, x)
    assert halved is not None
    assert halved.name == last


def test_a_sum_that_is_off_by_one_is_seen_and_an_unrounded_bias_is_not() -> None:
    sums, step = torch.tensor([[100.0, 7.0]]), torch.tensor(0.5)
    assert Match.of_sums(sums * step, (sums + 0.49) * step, step).max_steps == 0
    assert Match.of_sums(sums * step, (sums + 1) * step, step).max_steps == 1
    assert Match.of_floats(sums, sums * (1 + 1e-6)).max_steps == 0
    assert Match.of_floats(sums, sums * 1.001).max_steps == 33


@pytest.mark.parametrize("skip", [(), ("3",)])
def test_what_ends_in_floats_is_proved_behind_whatever_follows(skip: tuple[str, ...], tmp_path: Path) -> None:
    """A last bit of a weight in the file that a softmax follows, and a float weight of a skipped layer."""
    import onnx
    from onnx import numpy_helper

    conv, head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 10)
    pool = torch.nn.AdaptiveAvgPool2d(1)
    net = torch.nn.Sequential(conv, pool, torch.nn.Flatten(), head, torch.nn.Softmax(1))
    program, x, file = lower(converted(net, "fbgemm", skip=skip)), images(), tmp_path / "model.onnx"
    mqbench.export(program, file, form="onnxruntime", sidecars=False)
    sound = mqbench.verify(program, [x], file=file)
    names = ["4"] if skip else ["3", "4"]
    assert [layer.name for layer in sound.outputs] == names
    assert Requirement.parse("auto", program) == Requirement.parse("exact")
    assert not Requirement.parse("exact").missed(sound, {})
    model = onnx.load(str(file))
    tensor = next(t for t in model.graph.initializer if numpy_helper.to_array(t).shape in ((10, 4), (4, 10)))
    weight = numpy_helper.to_array(tensor).copy()
    weight[0, 0] = weight[0, 0] * 1.01 if skip else weight[0, 0] ^ 1
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, str(file))
    found = mqbench.verify(program, [x], file=file)
    assert found.exact_fraction == 1.0
    assert found.first_difference is not None
    assert found.first_difference.name == names[0]
    assert Requirement.parse("exact").missed(found, {})
    halved = bisect(program, x, file=file)
    assert halved is not None
    assert halved.name == names[0]


def test_bisect_finds_nothing_in_a_sound_engine() -> None:
    assert bisect(converted("basic", "fbgemm"), images()) is None


# -- refusals -------------------------------------------------------------------------------------------


def test_refusals() -> None:
    d = converted("basic", "fbgemm")
    with pytest.raises(UnknownNameError, match="unknown runtime 'onnx'"):
        mqbench.verify(d, [images()], runtime="onnx")
    with pytest.raises(RequestError, match="at least one batch"):
        mqbench.verify(d, [])
    with pytest.raises(RequestError, match="threads must be at least 1, got 0"):
        mqbench.verify(d, [images()], threads=0)
    with pytest.raises(RequestError, match="must be finite, got NaN"):
        mqbench.verify(d, [images().fill_(float("nan"))])
    with pytest.raises(RequestError, match="no option 'fast'; allowed: optimization"):
        mqbench.verify(d, [images()], options={"fast": True})
    with pytest.raises(RequestError, match="must be one of all, extended, basic, none, got 'most'"):
        mqbench.verify(d, [images()], options={"optimization": "most"})
    with pytest.raises(RequestError, match=r"must have shape \(batch, 3, 12, 12\), got \(4, 3, 10, 10\)"):
        mqbench.verify(d, [images(size=10)], runtime="torch_fbgemm")
    with pytest.raises(RequestError, match="takes 1 input tensors, got 2"):
        mqbench.verify(d, [(images(), images())])
    with pytest.raises(RequestError, match="must be a tensor, got NoneType"):
        mqbench.verify(d, [None])
    with pytest.raises(RequestError, match="at least one image"):
        bisect(d, images()[:0])
    missing = Runtime(
        package="no_such_engine",
        distribution="x",
        extra="engine",
        form="",
        arithmetic=Arithmetic(),
        open=_Faulty,
    )
    with pytest.raises(
        RequestError, match=r"no_such_engine is not installed .*pip install 'mqbench\[engine\]'"
    ):
        missing.require()
