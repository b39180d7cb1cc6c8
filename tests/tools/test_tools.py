"""Other toolkits: what they compute is refused or recorded, and a record says who made it."""

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mqbench
from mqbench import catalog, cli, metrics, tools
from mqbench.compare import differences
from mqbench.errors import IncompatibleError, MQBenchError, RequestError
from mqbench.record import Record, Setting
from mqbench.report.rows import rows
from mqbench.store import Store
from mqbench.task import validate
from mqbench.tools._base import Tool
from mqbench.tools._network import plain_network

CATALOG: Any = tools
PROJECT = Path(__file__).parents[2]
CELL: dict[str, Any] = {
    "architecture": "digits_resnet",
    "dataset": "digits",
    "algorithm": "ptq",
    "backend": "fbgemm",
    "bits": 8,
    "epochs": 0,
    "calibration_images": 64,
    "float_epochs": 2,
}


def cell(tool: str = "onnxruntime", **fields: Any) -> Setting:
    return Setting(**{**CELL, "tool": tool, **fields})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """With the float network."""
    made = Store(tmp_path_factory.mktemp("tools") / "runs")
    mqbench.run(cell().float_setting, store=made)
    return made


@pytest.mark.parametrize("name", [*CATALOG])
def test_a_tool_says_what_there_is(name: str) -> None:
    tool: Tool = CATALOG[name]
    assert tool.algorithms
    assert set(tool.algorithms) <= set(mqbench.algorithms)
    assert {*tool.weight_calibration, *tool.activation_calibration} <= set(mqbench.observers)
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert any(
        requirement.startswith(tool.distribution)
        for requirement in project["optional-dependencies"][tool.extra]
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"bits": 4}, "does not compute weight bits 4"),
        ({"bits": (8, 4)}, "does not compute activation bits 4"),
        ({"algorithm": "lsq"}, "does not compute algorithm lsq"),
        ({"backend": "tvm"}, "power_of_two True"),
        ({"backend": "acl"}, "graph 1"),
        ({"activation_calibration": "mse"}, "it takes none .its own., minmax, kld, quantile"),
        ({"first_last_bits": 4}, "same bits"),
        ({"bn_folding": 2}, "bn_folding of its own"),
        ({"bn_calibration": 64}, "no batch-norm calibration"),
        ({"epochs": None}, "give epochs = 0"),
        ({"epochs": None, "steps": 5}, "give epochs = 0"),
    ],
)
def test_a_cell_that_it_does_not_compute_is_refused(fields: dict[str, Any], said: str) -> None:
    pytest.importorskip("onnxruntime")
    validate([cell()])
    with pytest.raises(IncompatibleError, match=said):
        validate([cell(), cell(**fields)])


def test_the_float_network_has_no_tool() -> None:
    with pytest.raises(ValueError, match="takes no tool"):
        Setting(architecture="a", dataset="d", tool="onnxruntime")
    assert cell().float_setting == cell("mqbench").float_setting


def test_records_from_before_there_were_tools_load() -> None:
    old = [record for record in Store(PROJECT / "results" / "cifar10-resnet20") if record.schema_version == 1]
    assert len(old) == 26
    assert {(record.setting.tool, record.tool_version) for record in old} == {("mqbench", None)}
    assert (
        len({record.setting.key for record in old}) == 26
    )  # and each lies under its key, or would not be read


def added(folder: Path, name: str, package: str) -> str:
    """A tool from outside, whose network is the float network."""
    (folder / f"{name}.py").write_text(
        '"""Nothing quantized."""\n'
        "from mqbench.extend import Tool\n"
        f'TOOL = Tool(package="{package}", distribution="numpy", extra="nothing",\n'
        '            quantize=lambda job: job.network, algorithms={"ptq": "nothing"})\n'
    )
    catalog.load(folder / f"{name}.py")
    return name


def test_a_missing_one_is_refused_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = added(tmp_path, "absent", "no_such_package")
    with pytest.raises(RequestError, match=r"pip install 'mqbench\[nothing\]'.* MQBENCH_PYTHON_ABSENT"):
        validate([cell(name)])
    monkeypatch.setenv("MQBENCH_PYTHON_ABSENT", sys.executable)
    with pytest.raises(RequestError, match=f"{sys.executable} must be a Python with .*No module named"):
        validate([cell(name)])
    monkeypatch.setenv("MQBENCH_PYTHON_ABSENT", "/nowhere/python")
    with pytest.raises(RequestError, match="MQBENCH_PYTHON_ABSENT=/nowhere/python cannot be run"):
        validate([cell(name)])


def test_same_network_images_and_evaluation(store: Store, tmp_path: Path) -> None:
    """A tool that does nothing gives the float network's accuracy, exactly."""
    record = mqbench.run(cell(added(tmp_path, "idle", "numpy")), store=store)
    assert record.accuracy == record.float_accuracy == record.calibrated_accuracy
    assert record.agreement == 100
    assert record.tool_version is not None


def test_onnxruntime(store: Store) -> None:
    pytest.importorskip("onnxruntime")
    record = mqbench.run(cell(), store=store)
    assert record.outcome == "ok"
    assert record.accuracy == record.calibrated_accuracy
    assert record.accuracy is not None
    assert record.float_accuracy is not None
    assert abs(record.accuracy - record.float_accuracy) < 3
    assert record.agreement is not None
    assert record.agreement > 97
    assert record.provenance is not None
    assert record.provenance.versions["onnxruntime"] == record.tool_version
    (row,) = mqbench.records(store.root).filter(key=record.setting.key).to_dicts()
    assert row["tool"] == "onnxruntime"
    assert row["tool_version"] == record.tool_version


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "fields"),
    [
        ("nncf", {"backend": "snpe"}),
        ("torchao", {"backend": "tensorrt"}),
        ("torchao", {"backend": "fbgemm", "graph": 2, "symmetric_weights": True}),
        (
            "torchao",
            {"backend": "tensorrt", "algorithm": "minmax", "bits": 4, "first_last_bits": 4, "epochs": 1},
        ),
        ("brevitas", {"backend": "acl"}),
        ("brevitas", {"backend": "academic", "algorithm": "lsq", "bits": 4, "epochs": 1}),
    ],
)
def test_the_others(store: Store, tool: str, fields: dict[str, Any]) -> None:
    pytest.importorskip(tool)
    record = mqbench.run(cell(tool, **fields), store=store)
    assert record.outcome == "ok"
    assert record.agreement is not None
    assert record.agreement > (97 if fields.get("bits", 8) == 8 else 50)
    assert len(record.curve) == fields.get("epochs", 0)
    assert record.accuracy is not None
    assert record.float_accuracy is not None
    assert record.accuracy > record.float_accuracy - 3
    again = mqbench.run(record.setting, store=None)
    assert not differences(record, again)


@pytest.mark.parametrize("observer", ["kld", "quantile"])
def test_onnxruntime_calibrations_differ(store: Store, observer: str) -> None:
    pytest.importorskip("onnxruntime")
    record = mqbench.run(cell(activation_calibration=observer, backend="snpe"), store=store)
    assert record.agreement is not None
    assert record.agreement > 90


def test_another_interpreter_makes_the_same_record(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    here = mqbench.run(cell(seed=3), store=store)
    other = Store(tmp_path / "runs")
    monkeypatch.setenv("MQBENCH_PYTHON_ONNXRUNTIME", sys.executable)
    start = store.get(here.setting.float_setting)
    assert start is not None
    other.put(start, store.attachments(start.setting))
    there = mqbench.run(here.setting, store=other)
    assert not differences(here, there)
    assert other.get(here.setting) == there


def test_what_fails_there_is_said_here(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text(
        '"""Fails."""\nfrom mqbench.extend import Tool\ndef quantize(job):\n    raise ValueError("no such layer")\n'
        'TOOL = Tool(package="numpy", distribution="numpy", extra="x", quantize=quantize, algorithms={"ptq": ""})\n'
    )
    catalog.load(tmp_path / "broken.py")
    monkeypatch.setenv("MQBENCH_PYTHON_BROKEN", sys.executable)
    with pytest.raises(MQBenchError, match=r"exit code 1.: ValueError: no such layer"):
        mqbench.run(cell("broken"), store=store)


def test_the_plain_network_computes_the_same() -> None:
    torch.manual_seed(0)
    model = mqbench.architectures["digits_resnet"].build(10, 1)
    x = torch.randn(4, 1, 8, 8)
    for _ in range(3):
        model(x)  # batch norms that do something
    model.eval()
    plain, folded = plain_network(model, x[:2]), plain_network(model, x[:2], fold=True)
    assert torch.equal(plain(x), model(x))
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    relus = [node.target for node in plain.graph.nodes if "relu" in str(node.target)]
    assert len(relus) == len(set(relus)) == 5  # one ReLU of a block is called twice


def test_the_pages_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    page = (PROJECT / "docs" / "tools.md").read_text(encoding="utf-8")
    ((name, text),) = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL)
    (command,) = re.findall(r"```\nmqbench (run --load .*?)```", page, re.DOTALL)
    (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command.replace("\\\n", " "))
    assert cli.main([*arguments, "--float-epochs", "1", "--jobs", "1", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["records"]
    assert [record["setting"]["tool"] for record in records] == ["mqbench", "mqbench", "rounding"]
    assert records[2]["accuracy"] == pytest.approx(records[0]["accuracy"], abs=2)


def test_tools_stand_beside_algorithms() -> None:
    def made(tool: str, seed: int, accuracy: float) -> Record:
        return Record(setting=cell(tool, seed=seed), outcome="ok", accuracy=accuracy, float_accuracy=90.0)

    records = [
        made(tool, seed, base + seed) for tool, base in (("mqbench", 80), ("x", 70)) for seed in (0, 1)
    ]
    (pair,) = metrics.compare(records, "seeds")
    assert (pair.first, pair.second, pair.difference, pair.blocks) == ("ptq", "ptq (x)", 10.0, 2)
    assert metrics.accuracy_wins(records) == {"ptq": 1.0, "ptq (x)": 0.0}
    stability = metrics.rank_stability(records)
    assert stability is not None
    assert stability.ranking == ("ptq", "ptq (x)")
    ours, theirs = rows(records)
    assert (ours["name"], theirs["name"], ours["label"], theirs["label"]) == ("ptq", "ptq (x)", "", "")
    assert ours["backends"]["fbgemm"]["best"]
    assert not theirs["backends"]["fbgemm"]["best"]
