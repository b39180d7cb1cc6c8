"""Artifacts: a folder that proves itself, and says what is wrong with it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from deployed import converted
from mqbench.deploy import certificate as certificates
from mqbench.deploy.artifact import Request, make, open_again, verify_again
from mqbench.deploy.certificate import Certificate, sha256
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Program
from mqbench.deploy.requirement import Requirement, is_all_integer
from mqbench.errors import RequestError
from networks import images

pytest.importorskip("onnxruntime")


class FloatLayer(torch.nn.Module):
    """Two convolutions, concatenated on one grid: one of them stays float if it is skipped."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(3, 8, 3)
        self.head = torch.nn.Conv2d(16, 10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([torch.relu(self.left(x)), self.right(x)], 1)
        return self.head(both).mean((2, 3))


def artifact(
    folder: Path, backend: str = "fbgemm", net: Any = "basic", skip: Sequence[str] = (), **request: Any
) -> Certificate:
    program = lower(converted(net, backend, skip=skip))
    x = images(6, seed=8)
    return make(
        program,
        [(x, x.sum((1, 2, 3)).long() % 10)],
        [x[:2]],
        Request(folder=folder, **request),
        network={"architecture": "basic"},
        accuracy={"float": 50.0},
    )


def test_a_certificate_says_what_was_found(tmp_path: Path) -> None:
    certificate = artifact(tmp_path / "out")
    assert certificate["missed"] == []
    assert certificate["agreement"]["integer_and_engine"]["integers"]["exact_fraction"] == 1.0
    assert certificate["agreement"]["integer_and_engine"]["output"]["sqnr_db"] is None
    assert set(certificate["accuracy"]) == {"float", "simulated", "integer", "engine"}
    assert certificate["accuracy"]["integer"] == certificate["accuracy"]["engine"]
    layers = {layer["name"]: layer for layer in certificate["layers"]}
    assert layers["stem.0"]["precision"] == "integer"
    assert certificate["network"]["backend"] == "fbgemm"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*certificate["files"], "certificate.json", "certificate.md"}
    for name, digest in certificate["files"].items():
        assert sha256(tmp_path / "out" / name) == digest
    page = (tmp_path / "out" / "certificate.md").read_text()
    assert "**Passed.**" in page
    assert "| stem.0 | conv2d | integer | all | 0 |" in page
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_it_is_verified_again_by_itself(tmp_path: Path) -> None:
    artifact(tmp_path / "out")
    agreement, missed = verify_again(tmp_path / "out")
    assert (agreement.exact_fraction, agreement.images, missed) == (1.0, 2, [])
    _, missed = verify_again(tmp_path / "out", require="exact=1,steps=0")
    assert missed == []
    with pytest.raises(RequestError, match="drop asks for accuracy, and these images have no labels"):
        verify_again(tmp_path / "out", require="drop=0.5")


def test_channels_that_a_file_rescales_are_named_where_the_engine_needs_no_such_thing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = torch.nn.Conv2d(3, 8, 3)
    assert first.bias is not None
    with torch.no_grad():
        first.weight[3] *= 1e-12
        first.bias[3] = 30.0
    net = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1))
    for runtime, said in (("torch_fbgemm", "model.onnx: 1 nearly dead"), ("onnxruntime", "1 nearly dead")):
        found = make(
            lower(converted(net, "fbgemm")),
            [images(4)],
            [images(1)],
            Request(folder=tmp_path / runtime, runtime=runtime),
            network={},
        )
        assert found["missed"] == []
        assert next(note for note in found["notes"] if "nearly dead" in note).startswith(said)


def test_a_backend_with_a_form_of_its_own_gets_that_file_too(tmp_path: Path) -> None:
    certificate = artifact(tmp_path / "out", "tensorrt")
    assert {"model.onnx", "model.tensorrt.onnx"} <= set(certificate["files"])
    floats = [node for node in certificate["nodes"] if node["precision"] == "float"]
    assert {"blocks.0.b.0", "blocks.0.add"} <= {name for node in floats for name in node["operations"]}
    assert "In float: FusedConv" in (tmp_path / "out" / "certificate.md").read_text()


@pytest.mark.parametrize("name", ["model.onnx", "network.json", "network.safetensors", "sample.safetensors"])
def test_every_file_is_guarded(name: str, tmp_path: Path) -> None:
    artifact(tmp_path / "out")
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole[:-2] + b"xx"):
        path.write_bytes(damaged)
        with pytest.raises(RequestError, match=f"{name} is not the file that was certified"):
            open_again(tmp_path / "out")
    path.unlink()
    with pytest.raises(RequestError, match=f"{name} is missing"):
        open_again(tmp_path / "out")


def test_the_certificate_is_guarded(tmp_path: Path) -> None:
    artifact(tmp_path / "out")
    path = tmp_path / "out" / "certificate.json"
    text = path.read_text()
    spaced = text.replace(" ", "\t", 1)
    for damaged in (
        text[:-10],
        "",
        "[]",
        "{}",
        text.replace('"images": 6', '"images": 7'),
        text + "\n",
        spaced,
    ):
        path.write_text(damaged)
        with pytest.raises(RequestError, match=r"certificate\.json is damaged"):
            open_again(tmp_path / "out")
    path.unlink()
    with pytest.raises(
        RequestError, match=r"cannot read .*certificate\.json.*give a folder from mqbench quantize"
    ):
        open_again(tmp_path / "out")


def test_the_page_is_guarded(tmp_path: Path) -> None:
    artifact(tmp_path / "out")
    path = tmp_path / "out" / "certificate.md"
    whole = path.read_bytes()
    for damaged in (whole.replace(b"Passed", b"Surpassed"), whole.replace(b"\n", b"\r", 1), b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(RequestError, match=r"certificate\.md is not the page of its certificate"):
            open_again(tmp_path / "out")
    path.unlink()
    with pytest.raises(RequestError, match=r"certificate\.md cannot be read"):
        open_again(tmp_path / "out")


def test_a_certificate_without_files_is_refused(tmp_path: Path) -> None:
    artifact(tmp_path / "out")
    path = tmp_path / "out" / "certificate.json"
    certificate = certificates.read(path)
    del certificate["files"]
    certificates.write(certificate, path)
    with pytest.raises(RequestError, match="does not say which files"):
        open_again(tmp_path / "out")


def test_another_computation_is_noticed(tmp_path: Path) -> None:
    artifact(tmp_path / "out")
    path = tmp_path / "out" / "certificate.json"
    changed = certificates.read(path)
    changed["sample"]["reference"] = "0" * 64
    certificates.write(changed, path)
    with pytest.raises(RequestError, match="gives another output here"):
        verify_again(tmp_path / "out")


def test_a_bar_that_is_missed_says_where(tmp_path: Path) -> None:
    certificate = artifact(tmp_path / "out", net=FloatLayer(), skip=["left"])
    assert re.match(
        r"left\.quantize \(quantize\): 0\.9\d+ of 4800 integers equal on the engine's own inputs, 0\.999 required",
        certificate["missed"][0],
    )
    assert "**Missed.** left.quantize" in (tmp_path / "out" / "certificate.md").read_text()
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["missed"] == certificate["missed"]


def test_a_float_layer_that_the_optimizer_quantizes_is_named_and_cured(tmp_path: Path) -> None:
    certificate = artifact(tmp_path / "out", net=FloatLayer(), skip=["left"], cure=True)
    assert certificate["missed"] == []
    assert certificate["network"]["cured"] == ("float layers quantized: without=WeightBiasQuantization",)
    assert verify_again(tmp_path / "out")[1] == []
    uncured = artifact(tmp_path / "uncured", net=FloatLayer(), skip=["left"])
    (note,) = [note for note in uncured["notes"] if note.startswith("float layers quantized")]
    assert "concerns left; cure: the option without=WeightBiasQuantization" in note


def program(backend: str) -> Program:
    return lower(converted("basic", backend))


def test_bars() -> None:
    assert is_all_integer(program("fbgemm"))
    assert not is_all_integer(program("tensorrt"))
    assert Requirement.parse("auto", program("fbgemm")) == Requirement.parse("exact")
    assert Requirement.parse("auto", program("tensorrt")) == Requirement(exact=0.999, steps=1)
    assert Requirement.parse("steps=2, drop=0.5") == Requirement(steps=2, drop=0.5)
    for outside in ("exact=1.5", "free=-1", "flips=-1", "drop=nan", "exact=nan"):
        with pytest.raises(
            RequestError, match=r"in a requirement must be (from 0 to 1|0 or more|a number), got"
        ):
            Requirement.parse(outside)
    for wrong in ("perfect", "steps=much", "steps", "speed=1", ""):
        with pytest.raises(
            RequestError, match="require must be one of auto, exact, one-step, none, or NAME=NUMBER"
        ):
            Requirement.parse(wrong)


def test_refusals_before_any_compute(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(RequestError, match="exists already and is not empty"):
        Request(folder=tmp_path / "full").check()
    with pytest.raises(RequestError, match="unknown runtime"):
        Request(folder=tmp_path / "out", runtime="tensorflow").check()
    with pytest.raises(RequestError, match="require must be"):
        Request(folder=tmp_path / "out", require="all").check()


def test_nothing_is_left_of_a_folder_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least one batch"):
        make(program("fbgemm"), [], [images(1)], Request(folder=tmp_path / "out"), network={})
    assert list(tmp_path.iterdir()) == []
