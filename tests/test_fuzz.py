"""Whatever bytes are in a file that is read: what it holds, or the project's own error; never another one.

More examples by hand: ``FUZZ=20000 pytest tests/test_fuzz.py``.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from damage import Damage, damages
from deployed import converted
from mqbench.deploy import program_file, quantized_network
from mqbench.deploy.artifact import Request, make, open_again
from mqbench.deploy.lowering import lower
from mqbench.errors import RequestError, StoreError
from mqbench.latency_record import latency_records
from mqbench.record import Setting
from mqbench.store import Store
from mqbench.study import FOLDER, load_study, names
from mqbench.weights._file import read_tensors
from networks import images
from small_store import fill, made, measure

EXAMPLES = int(os.environ.get("FUZZ", "60"))
fuzz = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
STUDIES = [(FOLDER / f"{name}.toml").read_bytes() for name in names()]

FIELDS = st.sampled_from([*Setting.model_fields, "where", "set"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["lsq", "float", "tvm", "digits", "w4a8", "timm", "file:x", 4, 0.1]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [*Setting.model_fields, "seeds", "algorithms", "name", "title", "include", "exclude", "override"]
)


def outcome(read: Callable[[], Any], error: type[Exception]) -> Any:
    """What is read, or the error that is allowed."""
    try:
        return read()
    except error as refusal:
        return refusal


@contextmanager
def damaged(path: Path, damage: Damage) -> Iterator[bytes]:
    """Inside, a file is not what it was; gives what it was."""
    content = path.read_bytes()
    path.write_bytes(damage(content))
    try:
        yield content
    finally:
        path.write_bytes(content)


def read_study(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.toml"
        path.write_bytes(content)
        study = outcome(lambda: load_study(path), RequestError)
    if isinstance(study, RequestError):
        assert "\n" not in str(study)
        assert str(path) in str(study)
        return
    list(study.settings().examples())
    assert all(setting in study.settings() for setting in islice(study.settings(), 20))


@fuzz
@given(st.sampled_from(STUDIES), damages())
def test_a_study_file_that_was_damaged(content: bytes, damage: Damage) -> None:
    read_study(damage(content))


@fuzz
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_a_study_file_of_anything(fields: dict[str, Any]) -> None:
    base = {"architecture": "a", "dataset": "d"}
    read_study("".join(f"{key} = {_toml(value)}\n" for key, value in {**base, **fields}.items()).encode())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf").replace("null", "'null'")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    found = fill(tmp_path_factory.mktemp("store") / "runs", [made()])
    measure(found)
    return found


@fuzz
@given(name=st.sampled_from(["record.json", "provenance.json"]), damage=damages())
def test_a_record_that_was_damaged(name: str, damage: Damage, store: Store) -> None:
    key = made().setting.key
    with damaged(store.root / key / name, damage):
        record = outcome(lambda: store.get(key), StoreError)
    assert (
        str(store.root / key) in str(record) if isinstance(record, StoreError) else record.setting.key == key
    )


@fuzz
@given(damage=damages())
def test_a_measurement_that_was_damaged(damage: Damage, store: Store) -> None:
    path = sorted((store.root / "latency").iterdir())[0]
    with damaged(path, damage):
        found = outcome(lambda: list(latency_records(store)), StoreError)
    assert not isinstance(found, StoreError) or str(path) in str(found)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("artifact") / "out"
    program = lower(converted("squeeze", "fbgemm"))
    make(program, [images(4)], [images(2)], Request(folder=folder), network={"architecture": "squeeze"})
    return folder


@fuzz
@given(data=st.data(), damage=damages())
def test_an_artifact_that_was_damaged(data: st.DataObject, damage: Damage, artifact: Path) -> None:
    """It is refused, or what is read is what was certified."""
    path = data.draw(st.sampled_from(sorted(artifact.iterdir())))
    _, sample, certificate = open_again(artifact)
    with damaged(path, damage) as content:
        found = outcome(lambda: open_again(artifact), RequestError)
        same = path.read_bytes() == content
    if isinstance(found, RequestError):
        assert path.name in str(found)
    else:
        assert same or path.name == "certificate.json"  # its layout may change, what it says may not
        assert found[2] == certificate
        assert all(torch.equal(a, b) for a, b in zip(found[1], sample, strict=True))


@fuzz
@given(name=st.sampled_from(["network.json", "network.safetensors"]), damage=damages())
def test_a_program_that_was_damaged(name: str, damage: Damage, artifact: Path) -> None:
    """Without its certificate too: no code is run, no other error comes out."""
    with damaged(artifact / name, damage):
        found = outcome(lambda: program_file.load(artifact / "network.json"), RequestError)
    assert not isinstance(found, RequestError) or str(artifact) in str(found)


@fuzz
@given(damage=damages())
def test_the_file_of_torchs_kernels_that_was_damaged(damage: Damage, artifact: Path) -> None:
    engine = "fbgemm" if "fbgemm" in torch.backends.quantized.supported_engines else "x86"
    path = artifact / "model.fbgemm.safetensors"
    with damaged(path, damage):
        outcome(lambda: quantized_network.load(path, engine), ValueError)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, folder / "net.pt")
    torch.save(state, folder / "net.pth", _use_new_zipfile_serialization=False)
    (folder / "net.safetensors").write_bytes(save(dict(state)))
    return folder


@fuzz
@given(name=st.sampled_from(["net.pt", "net.pth", "net.safetensors"]), damage=damages())
def test_a_checkpoint_that_was_damaged(name: str, damage: Damage, checkpoints: Path) -> None:
    with damaged(checkpoints / name, damage):
        found = outcome(lambda: read_tensors(checkpoints / name), RequestError)
    assert name in str(found) if isinstance(found, RequestError) else found
