"""A folder with everything that is wrong: data, checkpoints, studies, stores, artifacts."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

import odd_networks
import tiny
from deployed import converted
from mqbench.deploy.artifact import Request, make
from mqbench.deploy.lowering import lower
from mqbench.float_network import PREDICTIONS, WEIGHTS
from mqbench.record import Record, Setting
from mqbench.store import Store
from networks import images
from small_store import fill, made, measure

FLOAT = Setting(architecture="digits_resnet", dataset="digits", epochs=1)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def build(place: Path) -> None:
    """Make it all."""
    torch.manual_seed(0)
    _data(place)
    _checkpoints(place)
    _studies(place)
    _stores(place)
    make(
        lower(converted("basic", "fbgemm")),
        [images(4)],
        [images(2)],
        Request(folder=place / "artifact"),
        network={"architecture": "basic"},
    )
    shutil.copytree(place / "artifact", place / "cut_artifact")
    _cut(place / "cut_artifact" / "model.onnx")
    (place / "file").touch()
    (place / "syntax_error.py").write_text("def f(:\n")
    (place / "leaving.py").write_text("import sys\nsys.exit(3)\n")


def _data(place: Path) -> None:
    counts = {"train": 12, "test": 6}
    tiny.repository(place / "good", counts=counts)
    tiny.repository(place / "cut", counts=counts)
    _cut(place / "cut" / "data" / "test-00000-of-00001.parquet", -80)
    tiny.repository(place / "holes", counts=counts)
    path = place / "holes" / "data" / "train-00000-of-00001.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:300] + bytes(2000) + content[2300:])
    tiny.repository(place / "text", counts=counts)
    (place / "text" / "data" / "train-00000-of-00001.parquet").write_text("images")
    pictures = [tiny.encoded(tiny.picture(row)) for row in range(6)]
    columns: dict[str, tuple[list[bytes], dict[str, list[Any]]]] = {
        "grey": ([tiny.encoded(tiny.picture(k, mode="L")) for k in range(6)], {"label": [0, 1, 2] * 2}),
        "fractions": (pictures, {"label": [0.5] * 6}),
        "huge": (pictures, {"label": [10**9] * 6}),
        "noise": ([*pictures[:5], b"no image"], {"label": [0, 1, 2] * 2}),
    }
    for name, (cells, more) in columns.items():
        for split in ("train", "test"):
            tiny.write_parquet(place / name / f"{split}.parquet", cells, more, "img")
    for split in ("train", "test"):
        (place / "no_rows").mkdir(exist_ok=True)
        pq.write_table(
            pa.table({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}),
            place / "no_rows" / f"{split}.parquet",
        )
        (place / "hollow" / split / "a").mkdir(parents=True)
    (place / "empty").mkdir()


def _checkpoints(place: Path) -> None:
    state = odd_networks.plain(3).state_dict()
    first = state["0.weight"]
    changed = {
        "net": first,
        "nan": first * torch.nan,
        "integers": (first * 100).to(torch.int8),
        "complex": first.to(torch.complex64),
        "sparse": first.to_sparse(),
    }
    for name, weight in changed.items():
        torch.save({**state, "0.weight": weight}, place / f"{name}.pt")
    torch.save(odd_networks.plain(7).state_dict(), place / "seven.pt")
    torch.save(odd_networks.twice(3, 3).state_dict(), place / "twice.pt")
    torch.save(odd_networks.without_batch_norm(3, 3).state_dict(), place / "no_norm.pt")
    torch.save(odd_networks.without_convolution().state_dict() | {"a": torch.ones(1)}, place / "none.pt")
    shutil.copy(place / "net.pt", place / "cut.pt")
    _cut(place / "cut.pt")
    (place / "empty.pt").touch()
    torch.save([1, 2], place / "list.pt")
    torch.save({**state, "more": Payload(place / "code_was_run")}, place / "code.pt")
    (place / "raw_code.pt").write_bytes(pickle.dumps(Payload(place / "code_was_run")))
    save_file(state, place / "cut.safetensors")
    _cut(place / "cut.safetensors")


def _studies(place: Path) -> None:
    base = 'architecture = "digits_resnet"\ndataset = "digits"\n'
    texts = {
        "nothing": "",
        "zero": f'{base}algorithm = "lsq"\nexclude = [{{algorithm = "lsq"}}]\n',
        "deep": "architecture = " + "[" * 100_000,
        "million": f'{base}algorithm = "lsq"\nseeds = {list(range(1000))}\n'
        f"learning_rate = {[n / 1000 for n in range(1, 1001)]}\n",
    }
    for name, text in texts.items():
        (place / f"{name}.toml").write_text(text)


def _stores(place: Path) -> None:
    trained = Record(setting=FLOAT, outcome="ok", accuracy=90.0, float_accuracy=90.0)
    good = fill(place / "runs", [made(), trained])
    measure(good)
    for name in ("newer", "unbounded", "deep_record", "cut_curve", "cut_times", "odd_times"):
        shutil.copytree(good.root, place / name)
    key = made().setting.key
    version = '"schema_version": 2'
    for name, new in {"newer": '"schema_version": 99', "unbounded": '"schema_version": 1e999'}.items():
        path = place / name / key / "record.json"
        path.write_text(path.read_text().replace(version, new))
    (place / "deep_record" / key / "record.json").write_text("[" * 100_000)
    _cut(place / "cut_curve" / key / "curve.parquet")
    for name, text in {"cut_times": "{", "odd_times": '{"schema_version": "new"}'}.items():
        next((place / name / "latency").iterdir()).write_text(text)
    for name, files in {"cut_float": (b"cut", b""), "no_float": ()}.items():
        Store(place / name).put(trained, dict(zip((WEIGHTS, PREDICTIONS), files, strict=False)))


def _cut(path: Path, end: int | None = None) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 if end is None else end])
