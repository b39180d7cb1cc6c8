"""Bad inputs of every kind: each ends in one sentence that helps, the right exit code, and nothing lost.

Options that are misspelt are in ``test_cli``, studies that are not one in ``test_study``, bars and folders of
artifacts in ``commands/test_quantize``; interrupts are in ``test_interrupts``, damaged bytes in ``test_fuzz``.
"""

import errno
import hashlib
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import bad_world
import mqbench
import odd_networks
from mqbench import cli
from mqbench.errors import MQBenchError
from networks import images
from processes import environment

pytest.importorskip("onnxruntime")

QUANTIZE = (
    "quantize odd_networks:{net} --weights file:{weights}.pt --data {data} --backend fbgemm --export out"
)
TRAIN = "quantize odd_networks:{net} --dataset digits --backend fbgemm --export out"
DIGITS = "run --architecture digits_resnet --dataset digits --accelerator cpu --jobs 1 --algorithm ptq --float-epochs 1"


def data(name: str) -> str:
    return QUANTIZE.format(net="plain", weights="net", data=name)


def weights(name: str) -> str:
    return QUANTIZE.format(net="plain", weights=name, data="good")


def network(name: str) -> str:
    return TRAIN.format(net=name)


# what is wrong -> the command, its exit code, and words of its sentence
REFUSED: dict[str, tuple[str, int, list[str]]] = {
    # names
    "an unknown factory": (network("nothing"), 2, ["odd_networks:nothing", "no attribute 'nothing'"]),
    "a factory without a module": ("quantize :x --dataset digits --backend fbgemm --export out", 2,
                                   ["PACKAGE.MODULE:FACTORY", "':x'"]),
    "an unknown engine for an artifact": ("verify artifact --runtime onnx", 2, ["unknown runtime 'onnx'", "openvino"]),
    "an unknown network to time": ("latency resnet --store runs", 2, ["unknown architecture 'resnet'", "resnet18"]),
    "an unknown backend in a million runs": ("run million.toml --backend tvmm --dry-run", 2, ["'tvmm'", "'tvm'"]),
    "an unknown layer": (f"{data('good')} --layer-bits conv9=4", 2, ["cannot give bits to 'conv9'", "layers: 0, 5"]),
    # impossible pairs
    "an algorithm without integers on a device": (f"{DIGITS} --algorithm lqnet --backend tensorrt", 2,
                                                  ["'lqnet' has no integer form", "academic"]),
    "an observer that nothing would look at": (
        f"{DIGITS} --algorithm dorefa --weight-calibration mse", 2, ["'dorefa'", "own rule", "leave it out"]),
    "two corrections of one mean": (f"{DIGITS} --bn-calibration 8 --bias-correction 8", 2, ["not both"]),
    "weights of the hub for a network of one's own": (
        QUANTIZE.replace("file:{weights}.pt", "timm").format(net="plain", data="good"), 2,
        ["models of timm", "file:PATH"]),
    # shapes
    "grey images for a colour network": (
        QUANTIZE.format(net="colour", weights="net", data="grey"), 2, ["images of 1 x 32 x 32", "3 channels"]),
    "grey images for a colour network that is trained": (network("colour"), 2, ["float32 (2, 1, 8, 8)", "3 channels"]),
    "weights for other classes": (weights("seven"), 2, ["does not fit", "7 classes", "the data has 3"]),
    "a network for other classes": (
        QUANTIZE.format(net="other_classes", weights="seven", data="good"), 2,
        ["each of 3 classes", "got a tensor of (1, 7)"]),
    "fewer images than a batch": ("quantize odd_networks:plain --data good --backend fbgemm --export out", 2,
                                  ["at most the 12 training images, got 512", "float_batch"]),
    # types
    "integers for weights": (weights("integers"), 2, ["0.weight is int8", "float32"]),
    "complex numbers for weights": (weights("complex"), 2, ["0.weight is complex64"]),
    "sparse weights": (weights("sparse"), 2, ["0.weight is sparse_coo"]),
    "a network of half precision": (network("half"), 2, ["cannot compute", "float32 (2, 1, 8, 8)", "Half"]),
    "labels that are fractions": (data("fractions"), 2, ["no label column"]),
    "labels that are no classes": (data("huge"), 2, ["labels up to 1000000000", "label=NAME"]),
    "a factory that is no function": (network("number"), 2, ["odd_networks:number", "not a callable"]),
    "a factory that makes no network": (network("text"), 2, ["gave a str"]),
    # folders and files of data
    "an empty folder": (data("empty"), 2, ["empty holds no images", "parquet"]),
    "classes without an image": (data("hollow"), 2, ["needs a split 'train'"]),
    "a file of data": (data("file"), 2, ["no folder", "file"]),
    "parquet without rows": (data("no_rows"), 2, ["parquet holds no images"]),
    "parquet that is cut": (data("cut"), 2, ["test-00000-of-00001.parquet is damaged"]),
    "parquet with holes": (data("holes"), 2, ["holes"]),
    "parquet that is text": (data("text"), 2, ["train-00000-of-00001.parquet is damaged or no parquet file"]),
    "an image that is none": (data("noise"), 2, ["row 5 of train", "no readable image (UnidentifiedImageError)"]),
    # checkpoints
    "a checkpoint that is cut": (weights("cut"), 2, ["cut.pt is damaged or no checkpoint"]),
    "an empty checkpoint": (weights("empty"), 2, ["empty.pt is damaged", "ends too early"]),
    "a checkpoint of something else": (weights("list"), 2, ["no named tensors, but a list", "state_dict()"]),
    "safetensors that are cut": (
        weights("cut").replace("cut.pt", "cut.safetensors"), 2, ["cut.safetensors is no readable"]),
    "a checkpoint with code in it": (weights("code"), 2, ["Python objects (posix.mkdir)", "only tensors"]),
    "a pickle that is code": (weights("raw_code"), 2, ["raw_code.pt"]),
    "weights that are NaN": (weights("nan"), 2, ["0.weight holds NaN"]),
    # networks
    "no convolution": (network("without_convolution"), 2, ["no convolution or linear layer"]),
    "dynamic control flow": (network("dynamic"), 2, ["odd_networks.py", "if y.sum() > 0"]),
    "a factory that raises": (network("raising"), 2, ["odd_networks:raising", "RuntimeError: no such luck"]),
    "a factory that wants more": (network("demanding"), 2, ["missing 1 required positional argument: 'depth'"]),
    "a module with a syntax error": (
        network("x").replace("odd_networks", "syntax_error"), 2, ["SyntaxError", "line 1"]),
    "a module that leaves": (network("x").replace("odd_networks", "leaving"), 2, ["SystemExit: 3"]),
    # studies
    "an empty study": ("run nothing.toml", 2, ["nothing.toml", "architecture is missing"]),
    "a study of zero runs": ("run zero.toml", 2, ["zero.toml", "nothing of the study is left"]),
    "a study that is too deep": ("run deep.toml", 2, ["deep.toml", "too deep"]),
    "a plan of a million runs": ("run million.toml --dry-run", 2, ["more than 20000 settings", "--seeds 0"]),
    "a table of a million runs": ("table million.toml", 2, ["more than 20000 settings", "mqbench records"]),
    "two cures of one shift": (
        "run ptq --bias-correction 64 --bn-calibration 64", 2, ["bn_calibration or bias_correction, not both"]),
    "a thousand threads too many": (f"{DIGITS} --threads 100000", 2, ["--threads", "1024"]),
    # stores
    "a store from a newer version": ("report newer -o site", 2, ["newer mqbench", "schema 99", "upgrade"]),
    "a newer record to merge": ("merge runs newer -o both", 2, ["newer mqbench", "upgrade"]),
    "a record of no version": ("records --store unbounded", 2, ["damaged record unbounded/", "remove it"]),
    "a record without an end": ("report deep_record -o site", 2, ["damaged record deep_record/", "remove it"]),
    "a curve that is cut": ("report cut_curve -o site", 2, ["curve.parquet of record cut_curve/", "remove"]),
    "a measurement that is cut": ("latency --show --store cut_times", 2, ["damaged measurement cut_times/latency/"]),
    "a measurement of no version": ("merge odd_times -o both", 2, ["damaged measurement odd_times/latency/"]),
    "a float network that is cut": (
        "quantize digits_resnet --dataset digits --float-epochs 1 --backend fbgemm --export out --store cut_float", 2,
        ["weights.safetensors of record cut_float/", "run again"]),
    "a float network that is gone": (
        "quantize digits_resnet --dataset digits --float-epochs 1 --backend fbgemm --export out --store no_float", 2,
        ["no file weights.safetensors in no_float/"]),
    "a merge of what is no store": ("merge artifact -o both", 2, ["there are no records in artifact"]),
    # artifacts
    "an artifact that is cut": ("verify cut_artifact", 2, ["model.onnx is not the file that was certified"]),
    "a store for an artifact": ("verify runs", 2, ["runs/certificate.json", "mqbench quantize"]),
    # places
    "a device for a folder of events": (f"{DIGITS} --tensorboard file/events", 2, ["cannot write file/events"]),
    "a file for a folder of pictures": ("draw lsq -o file", 2, ["cannot write file"]),
    "a folder for a diagnosis that is full": ("diagnose digits_resnet --dataset digits --backend fbgemm -o runs", 2,
                                              ["runs exists already"]),
}  # fmt: skip

# what is odd but right
ACCEPTED = {
    "one image of calibration": f"{data('good')} --calibration-images 1 --bn-calibration 1",
    "no batch norm": QUANTIZE.format(net="without_batch_norm", weights="no_norm", data="good"),
    "a module that is used twice": QUANTIZE.format(net="twice", weights="twice", data="good"),
}

# a command that writes, and what of it cannot be written
WRITING = {
    "run": (f"{DIGITS} --float-seed 1 --store runs", "runs"),
    "run, in a new store": (f"{DIGITS} --store new", "new"),
    "quantize": (weights("net"), "out"),
    "quantize, training first": (
        "quantize digits_resnet --dataset digits --float-epochs 1 --backend fbgemm --export ../trained --store new",
        "new"),
    "latency": (
        "latency digits_resnet --image-size 8 --runs 1 --batch-size 1 --runtime onnxruntime --store new", "new"),
    "report": ("report runs -o site", "site"),
    "merge": ("merge runs -o both", "both"),
    "records": ("records --store runs --parquet all.parquet", "all.parquet"),
    "diagnose": (QUANTIZE.format(net="plain", weights="net", data="good")
                 .replace("quantize", "diagnose").replace("--export", "-o"), "out"),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    bad_world.build(place)
    return place


@pytest.fixture
def here(
    world: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The world, for a test that leaves it as it was."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("MQBENCH_CACHE", str(world.parent / "cache"))
    before = content(world)
    yield world
    assert content(world) == before


def content(folder: Path) -> dict[str, str]:
    """Every file and folder, with a hash of what is in it."""
    found = sorted(folder.rglob("*"))
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
        for p in found
        if "__pycache__" not in p.parts
    }


def called(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.main(shlex.split(command))
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSED)
def test_one_sentence_the_exit_code_and_nothing_lost(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, wanted, words = REFUSED[name]
    code, said = called(command, capsys)
    assert (code, said.count("\n")) == (wanted, 1), said
    assert said.startswith("mqbench: ")
    assert "Traceback" not in said
    assert all(word in said for word in words), said


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_odd_but_right(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = called(
        ACCEPTED[name].replace("--export out", f"--export {here.parent / name.split()[-1]}"), capsys
    )
    assert (code, said) == (0, "")


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Inside, the system refuses to write more than so many bytes into any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[None]:
    """Inside, nothing can be made below a folder."""

    def refusing(real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            inside = not isinstance(path, int) and Path(os.path.abspath(path)).is_relative_to(place)
            if inside and writes(*arguments):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return real(path, *arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("os.mkdir", refusing(os.mkdir, lambda *_: True))
        patch.setattr("os.open", refusing(os.open, lambda flags, *_: bool(flags & (os.O_WRONLY | os.O_RDWR))))
        patch.setattr("io.open", refusing(open, lambda mode="r", *_: not mode.startswith("r")))
        yield


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is recorded as failed, so that the same command goes on when there is room."""
    command, _ = WRITING[name]
    with full_disk(10_000 if name.startswith("run") else 100):  # enough for the record of a failure
        code, said = called(command, capsys)
    refuse_to_write(code, said)
    assert "File too large" in said
    for left in ("new/.checkpoints", "new/latency", "new", "both"):  # an empty folder may stay
        if (here / left).is_dir():
            (here / left).rmdir()


@pytest.mark.parametrize("name", WRITING)
def test_a_place_that_can_only_be_read(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, place = WRITING[name]
    with read_only(monkeypatch, here):
        code, said = called(command, capsys)
    refuse_to_write(code, said)
    assert place in said
    assert "Read-only file system" in said


def refuse_to_write(code: int, said: str) -> None:
    assert (code, said.count("\n")) == (2, 1), said
    assert said.startswith(("mqbench: cannot write ", "mqbench: no engine could be timed: ")), said


PTQ: dict[str, Any] = {"backend": "fbgemm", "algorithm": "ptq", "bits": 8}


def plain() -> Any:
    q = mqbench.prepare(odd_networks.plain(3), images(4), **PTQ)
    mqbench.calibrate(q, [images(4)])
    return q


PYTHON: dict[str, tuple[Callable[[], Any], str]] = {
    "a batch of another number of channels": (
        lambda: mqbench.calibrate(plain(), [torch.zeros(2, 1, 12, 12)]),
        r"prepared for \(N, 3, 12, 12\) and cannot compute a batch of float32 \(2, 1, 12, 12\): .*3 channels",
    ),
    "an image alone": (
        lambda: mqbench.calibrate(plain(), [torch.zeros(3, 12, 12)]),
        r"cannot compute a batch of float32 \(3, 12, 12\): it must have 4 dimensions, not 3",
    ),
    "bytes for a batch": (
        lambda: mqbench.calibrate(plain(), [torch.zeros(2, 3, 12, 12, dtype=torch.uint8)]),
        "floating-point tensor, got torch.uint8",
    ),
    "a batch of double precision": (
        lambda: mqbench.calibrate(plain(), [torch.zeros(2, 3, 12, 12, dtype=torch.double)]),
        "network's type, torch.float32, got torch.float64",
    ),
    "a number for batches": (
        lambda: mqbench.calibrate(plain(), 5),  # type: ignore[arg-type]
        "sequence of batches, got int",
    ),
    "another shape for batch-norm calibration": (
        lambda: mqbench.calibrate_bn(plain(), [torch.zeros(2, 1, 12, 12)]),
        r"cannot compute a batch of float32 \(2, 1, 12, 12\)",
    ),
    "another shape for bias correction": (
        lambda: mqbench.correct_bias(plain(), [torch.zeros(2, 1, 12, 12)]),
        r"cannot compute a batch of float32 \(2, 1, 12, 12\)",
    ),
    "an example of another shape": (
        lambda: mqbench.prepare(odd_networks.plain(3), torch.zeros(2, 1, 8, 8), **PTQ),
        r"Sequential cannot compute the example inputs, float32 \(2, 1, 8, 8\): .*3 channels",
    ),
    "no example": (
        lambda: mqbench.prepare(odd_networks.plain(3), None, **PTQ),  # type: ignore[arg-type]
        "example_inputs must be non-empty tensors with a batch dimension, got NoneType",
    ),
    "a function for a model": (
        lambda: mqbench.prepare(odd_networks.plain, images(2), **PTQ),  # type: ignore[arg-type]
        r"must be a torch\.nn\.Module, got function",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_from_python(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    call, words = PYTHON[name]
    with pytest.raises(MQBenchError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().err == ""


def test_standard_output_that_is_full(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("there is no /dev/full")
    command = [sys.executable, "-m", "mqbench", "list"]
    with full.open("w") as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert (done.returncode, done.stderr) == (
        2,
        "mqbench: cannot write standard output, or a temporary file: No space left on device\n",
    )
