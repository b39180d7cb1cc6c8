"""Programs on disk: the same network again, or a sentence that names the damaged file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mqbench
from deployed import NETWORKS, converted
from mqbench.deploy.lowering import lower
from mqbench.deploy.program_file import load, save
from mqbench.deploy.simulation import Simulation
from mqbench.errors import RequestError
from networks import images


@pytest.mark.parametrize("backend", ["fbgemm", "tensorrt", "academic"])
@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_read_computes_the_same(network: str, backend: str, tmp_path: Path) -> None:
    program = lower(converted(network, backend, 4))
    paths = save(program, tmp_path / "network.json")
    again = load(tmp_path / "network.json")
    assert sorted(p.name for p in paths) == sorted(p.name for p in tmp_path.iterdir())
    assert again.values == program.values
    assert again.description == program.description
    x = images(3, seed=2)
    assert torch.equal(Simulation(again)(x), Simulation(program)(x))
    first, second = mqbench.to_integer(program).values(x), mqbench.to_integer(again).values(x)
    assert all(torch.equal(first[name], second[name]) for name in first)


def rewritten(path: Path, change: Any) -> None:
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    structure, weights = save(lower(converted("squeeze", "tensorrt")), path)
    text, tensors = structure.read_text(), weights.read_bytes()
    for damaged in (tensors[:100], b"", tensors[:-10]):
        weights.write_bytes(damaged)
        with pytest.raises(RequestError, match=r"network\.safetensors is damaged"):
            load(path)
    weights.unlink()
    with pytest.raises(RequestError, match=r"cannot read .*network\.safetensors: No such file"):
        load(path)
    weights.write_bytes(tensors)
    for broken in (text[: len(text) // 2], "", "[]", "{}", '{"format": 1}'):
        structure.write_text(broken)
        with pytest.raises(RequestError, match=r"network\.json is damaged"):
            load(path)
    structure.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(RequestError, match="another version of mqbench"):
        load(path)


def test_operations_that_are_not_written_are_not_read(tmp_path: Path) -> None:
    path = save(lower(converted("squeeze", "tensorrt")), tmp_path / "network.json")[0]

    def call(target: str) -> Any:
        def change(fields: dict[str, Any]) -> None:
            floats = [op["Float"] for op in fields["operations"] if "Float" in op]
            floats[0]["target"] = target

        return change

    original = path.read_text()
    for target in ("aten.from_file.default", "os.system.default", "aten.relu"):
        rewritten(path, call(target))
        with pytest.raises(RequestError, match=f"damaged: .*calls {target}"):
            load(path)
        path.write_text(original)
    rewritten(path, lambda fields: fields["operations"].pop(0))
    with pytest.raises(RequestError, match=r"damaged: .*reads"):
        load(path)
