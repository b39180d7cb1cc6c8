"""The command line: what it prints, what it refuses, and its exit codes."""

import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import mqbench
import standin
from mqbench import cli, progress
from mqbench.commands import _size
from mqbench.commands import list as list_command
from mqbench.commands import run as run_command
from mqbench.executors._base import Finished, Lost, Planned, Progress, Started
from mqbench.liveness import lives
from mqbench.record import Provenance, Record, Setting
from mqbench.store import Store
from mqbench.study import load_study
from mqbench.sweep import stream, sweep
from processes import environment, until

SMALL = "run --architecture digits_resnet --algorithm lsq,pact --backend academic --backend tvm --seeds 0,1"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in an empty folder, with a stand-in for the work."""
    monkeypatch.chdir(tmp_path)

    def call(command: str, work: str = "run") -> tuple[int, str, str]:
        monkeypatch.setattr(run_command, "sweep", functools.partial(sweep, work=f"standin:{work}"))
        code = cli.main(command.split())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def small() -> list[Setting]:
    """The runs of SMALL."""
    base: dict[str, Any] = {"architecture": "digits_resnet", "dataset": "digits"}
    return [
        Setting(**base),
        *(
            Setting(**base, algorithm=algorithm, backend=backend, seed=seed)
            for algorithm in ("lsq", "pact")
            for backend in ("academic", "tvm")
            for seed in (0, 1)
        ),
    ]


def test_a_grid_from_options(run: Run, tmp_path: Path) -> None:
    code, out, err = run(f"{SMALL} --jobs 1")
    assert code == 0
    assert {r.setting for r in Store(tmp_path / "runs")} == set(small())
    assert "digits_resnet" in out
    assert "lsq" in out
    assert "9 runs: 9 ok. Records: runs/" in out
    lines = err.splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("[1/9] digits_resnet digits float s0: ")
    assert lines[-1].startswith("[9/9] ")


def test_the_default_study(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("run --jobs 1")
    assert code == 0
    assert out.startswith(load_study("default").title)
    assert "73 runs: 73 ok." in out
    assert sum(1 for _ in Store(tmp_path / "runs")) == 73
    again = run("run --jobs 1", work="nothing")
    assert again == (0, out, "")
    assert run("table") == (0, out, "")


def test_a_study_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('architecture = "digits_resnet"\ndataset = "digits"\nalgorithm = "lsq"\nseeds = [4, 5]\n')
    code, out, _ = run("run my.toml --store kept --jobs 1")
    assert (code, "3 runs: 3 ok. Records: kept/" in out) == (0, True)
    assert sorted(r.setting.seed for r in Store("kept")) == [0, 4, 5]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--bits 4,8 --algorithm lsq", {((4, 4), 8), ((8, 8), 8)}),
        ("--bits w4a8 --algorithm lsq --first-last-bits 4", {((4, 8), 4)}),
        ("--bits 4 --bits w2a4 --algorithm lsq", {((4, 4), 8), ((2, 4), 8)}),
    ],
)
def test_bits(run: Run, options: str, expected: set[Any]) -> None:
    code, out, _ = run(f"run {options} --json --jobs 1")
    settings = [record["setting"] for record in json.loads(out)["records"]]
    found = {(tuple(s["bits"]), s["first_last_bits"]) for s in settings if s["algorithm"] != "float"}
    assert (code, found) == (0, expected)


def test_every_axis_is_an_option(run: Run) -> None:
    axes: dict[str, Any] = {
        "architecture": "digits_resnet",
        "dataset": "digits",
        "algorithm": "lsq",
        "backend": "tvm",
        "bits": "w3a5",
        "bn_folding": "-1,2",
        "graph": 3,
        "sync_bn": "false",
        "first_last_bits": "7",
        "granularity": "per_channel",
        "symmetric_weights": "false",
        "symmetric_activations": "true",
        "power_of_two": "true",
        "adaptive_sign": "true",
        "shared_concat": "false",
        "weight_calibration": "minmax",
        "activation_calibration": "mse",
        "calibration_images": "32",
        "bn_calibration": "64",
        "quantizer_weight_decay": "1e-5",
        "steps": "2",
        "learning_rate": "0.25",
        "weight_decay": "0",
        "batch_size": "16",
        "global_batch": "32",
        "weights": "timm",
        "tool": "onnxruntime",
        "seed": "5",
        "float_seed": "6",
        "float_epochs": "3",
        "float_batch": "32",
    }
    other = {"epochs", "bias_correction"}  # in place of steps, of bn_calibration
    assert list(axes) == [name for name in Setting.model_fields if name not in other]
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in axes.items())
    code, out, err = run(f"run {options} --json --jobs 1")
    assert code == 0, err
    settings = [Setting.model_validate(record["setting"]) for record in json.loads(out)["records"]]
    given = {**axes, "bits": (3, 5)}
    assert settings[1:] == [Setting(**{**given, "bn_folding": folding}) for folding in (-1, 2)]
    assert settings[0] == settings[1].float_setting


def test_options_change_a_study(run: Run) -> None:
    _, out, _ = run("run default --seeds 3 --algorithm lsq --json --jobs 1")
    settings = [record["setting"] for record in json.loads(out)["records"]][1:]
    assert [(s["algorithm"], s["seed"]) for s in settings] == [("lsq", 3)] * 6


def test_json_of_a_run(run: Run) -> None:
    code, out, err = run(f"{SMALL} --json --jobs 1")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["outcomes"] == {"ok": 9, "not_converged": 0, "failed": 0}
    assert (result["runs"], result["missing"], result["store"]) == (9, 0, "runs")
    assert [row["algorithm"] for row in result["rows"]] == ["lsq", "pact"]
    assert [record["key"] for record in result["records"]] == [setting.key for setting in small()]
    assert result["records"][0]["accuracy"] == standin.record_of(small()[0]).accuracy


def test_failed_runs_exit_1_after_the_table(run: Run) -> None:
    code, out, err = run(f"{SMALL} --jobs 1", work="run_raising")
    assert code == 1
    assert "9 runs: 5 ok, 4 failed." in out
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 4
    assert "ArithmeticError: seed 1 is bad" in failed[0]
    assert small()[2].key in failed[0]
    code, out, err = run(f"{SMALL} --jobs 1")
    assert (code, "4 failed" in out, "--retry-failed" in err) == (1, True, True)
    code, out, err = run(f"{SMALL} --jobs 1 --retry-failed")
    assert (code, "9 runs: 9 ok" in out) == (0, True)
    assert len(err.splitlines()) == 4


def test_a_study_that_is_too_large_for_a_table_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_size, "MOST", 7)
    monkeypatch.setattr(run_command, "stream", functools.partial(stream, work="standin:run_raising"))
    code, out, err = run(f"{SMALL} --jobs 1")
    assert (code, out) == (1, "9 runs made: 5 ok, 4 failed. Records: runs; see mqbench records\n")
    assert "ArithmeticError: seed 1 is bad" in err
    code, out, _ = run(f"{SMALL} --jobs 1 --json")
    assert (code, json.loads(out)) == (0, {"store": "runs", "made": 0, "outcomes": {}})


def test_many_failures_are_summed_up(run: Run) -> None:
    code, _, err = run("run --jobs 1", work="run_without_float")
    assert code == 1
    assert sum(line.startswith("failed: ") for line in err.splitlines()) == 5
    assert "and 68 more" in err


def test_an_interrupt_exits_130(run: Run) -> None:
    code, out, err = run(f"{SMALL} --jobs 1", work="run_interrupted")
    assert (code, out) == (130, "")
    assert "interrupted" in err.splitlines()[-1]
    assert len(list(Store("runs"))) == 2
    assert run(f"{SMALL} --jobs 1")[0] == 0


def test_a_table_says_what_is_missing(run: Run) -> None:
    run(f"{SMALL} --jobs 1")
    code, out, _ = run("table --algorithm lsq,pact,dsq --backend academic,tvm --seeds 0,1")
    assert (code, "13 runs: 9 ok, 4 missing (mqbench run makes them)." in out) == (0, True)
    result = json.loads(run("table --json")[1])
    assert (result["runs"], result["missing"]) == (73, 64)
    assert result["outcomes"]["ok"] == 9


def test_a_table_of_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code, out, _ = run("table")
    assert (code, "No records yet." in out, "73 missing" in out) == (0, True, True)


KINDS = [*list_command.KINDS, "studies"]


@pytest.mark.parametrize("kind", KINDS)
def test_list_of_a_kind(run: Run, kind: str) -> None:
    code, out, _ = run(f"list {kind}")
    entries = json.loads(run(f"list {kind} --json")[1])
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == len(entries) > 0
    for line, entry in zip(lines, entries, strict=True):
        assert entry["kind"] == kind
        assert entry["description"]
        assert line.split()[0] == entry["name"]
        assert line.rstrip().endswith(entry["description"])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("datasets", ["hub:OWNER/NAME[:CONFIG]", "folder:PATH"]),
        ("architectures", ["timm/NAME"]),
        ("backends", []),
    ],
)
def test_names_that_no_list_can_hold_are_told_apart(run: Run, kind: str, names: list[str]) -> None:
    _, out, error = run(f"list {kind}")
    assert all(f"also {name}: " in error for name in names)
    assert error.count("also ") >= len(names)
    assert bool(error) == bool(names)
    assert "also" not in out


def test_list_of_everything(run: Run) -> None:
    entries = json.loads(run("list --json")[1])
    assert list(dict.fromkeys(entry["kind"] for entry in entries)) == KINDS
    assert len(run("list")[1].splitlines()) == len(entries)
    studies = {entry["name"]: entry["description"] for entry in entries if entry["kind"] == "studies"}
    assert {"default", "cifar10", "paper/table7"} <= studies.keys()
    assert all(studies.values())


def test_a_users_file_is_listed_and_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        '"""My own."""\nfrom mqbench.algorithms.lsq import ALGORITHM as LSQ\nALGORITHM = LSQ\n'
    )
    try:
        assert "mine" in run("list algorithms --load mine.py")[1]
        code, out, _ = run("run --algorithm mine --load mine.py --jobs 1")
        assert (code, "mine" in out) == (0, True)
        assert run("table --algorithm mine --load mine.py")[0] == 0
    finally:
        del mqbench.algorithms._added["mine"]
    assert run("table --algorithm mine")[0] == 2


def forget(*names: str) -> None:
    """Take added entries out of the catalogs."""
    for folder in list_command.KINDS.values():
        for name in names:
            getattr(import_module(f"mqbench.{folder}"), "_added").pop(name, None)  # noqa: B009


LONG = "n" * 300


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("fly", ["fly", "draw", "list"]),
        ("run --fly", ["--fly"]),
        ("run a.toml b.toml", ["b.toml"]),
        ("run --algorithm", ["--algorithm"]),
        ("run --jobs 0", ["--jobs", "1"]),
        ("run --jobs many", ["--jobs", "many", "int"]),
        ("run --threads 0", ["--threads"]),
        ("run --jobs 1.5", ["--jobs", "1.5", "int"]),
        ("run --threads 2.0", ["--threads", "2.0", "int"]),
        ("run --epochs 1.5 --algorithm lsq", ["--epochs", "1.5", "int"]),
        ("run --seeds 0,0.5 --algorithm lsq", ["--seeds", "0.5", "int"]),
        ("run --batch-size 1e2 --algorithm lsq", ["--batch-size", "1e2", "int"]),
        ("draw --bits 2.5", ["--bits", "2.5", "int"]),
        ("run --seeds x --algorithm lsq", ["--seeds", "x", "int"]),
        ("run --seeds 0", ["--seeds", "--algorithm", "default"]),
        ("run --seeds -1 --algorithm lsq", ["seed", "0", "-1"]),
        ("run --bits 40 --algorithm lsq", ["bits", "40", "16"]),
        ("run --bits w4 --algorithm lsq", ["bits", "w4", "w4a8"]),
        ("run default --bits 40", ["bits", "40", "16"]),
        ("run --bits 2 --algorithm lsq", ["2 bits", "3 or more"]),
        ("run --graph 4 --algorithm lsq", ["graph", "1, 2 or 3"]),
        ("run --architecture digit_resnet --algorithm lsq", ["'digit_resnet'", "digits_resnet"]),
        ("run --dataset imagenets --algorithm lsq", ["'imagenets'", "digits"]),
        ("run --algorithm lsqq", ["'lsqq'", "did you mean 'lsq'", "pact"]),
        ("run --algorithm lsq, ", ["''", "lsq"]),
        ("run --backend tensorrt8 --algorithm lsq", ["'tensorrt8'", "tensorrt"]),
        ("run --weight-calibration mx --algorithm lsq", ["'mx'", "minmax"]),
        ("run --executor moon", ["'moon'", "local"]),
        ("run --executor-option num_gpus=1", ["takes no options", "'num_gpus'"]),
        ("run --executor ray --executor-option gpus=1", ["'gpus'", "did you mean 'num_gpus'", "address"]),
        ("run --executor ray --executor-option tries=few", ["tries", "integer", "'few'"]),
        ("run --executor slurm --executor-option cluster=moon", ["cluster", "'slurm' or 'local'", "'moon'"]),
        ("run --executor slurm --executor-option hours", ["'hours'", "name=value"]),
        ("run --executor slurm --executor-option hours=1 --executor-option hours=2", ["hours", "twice"]),
        ("run nostudy", ["'nostudy'", "default", ".toml"]),
        ("run none.toml", ["none.toml", "No such file"]),
        ("run bad.toml", ["bad.toml", "'algoritm'", "algorithm"]),
        ("run broken.toml", ["broken.toml", "TOML", "line 1"]),
        ("run --store no/such/runs", ["no/such/runs", "no folder no/such"]),
        ("run --store a_file", ["a_file", "not a folder"]),
        ("run --store a_file/runs", ["a_file/runs"]),
        (f"run --store {LONG}", [LONG, "name too long"]),
        (f"table --store {LONG}", [LONG, "name too long"]),
        ("run --store=", ["store", "empty"]),
        ("table --store=", ["store", "empty"]),
        ("run --load latin.py", ["latin.py", "not UTF-8"]),
        (f"run --load {LONG}", [LONG, "name too long"]),
        ("run --algorithm raising --load raising.py", ["raising.py", "NameError", "'nothing'"]),
        ("draw raising --load raising.py", ["raising.py", "NameError"]),
        ("run --algorithm number --load number.py", ["ALGORITHM", "number.py", "Algorithm", "int 3"]),
        ("run --architecture number --algorithm lsq --load number.py", ["ARCHITECTURE", "None"]),
        (
            "run --weight-calibration number --algorithm minmax --load number.py",
            ["OBSERVER", "subclass of Observer"],
        ),
        ("run --executor number --load number.py", ["EXECUTOR", "number.py", "Executor"]),
        ("run --algorithm float --backend tvmm", ["float", "backend"]),
        ("run default --algorithm float --bits 2", ["float", "bits"]),
        ("run --load none.py", ["none.py", "No such file"]),
        ("run --load a_file", ["a_file", "ALGORITHM"]),
        ("list fish", ["'fish'", "algorithms", "studies"]),
        ("list algorithms backends", ["backends"]),
        ("table nostudy", ["'nostudy'", "default"]),
        ("table --store nowhere", ["nowhere", "mqbench run"]),
        ("table --backend tensorrt8 --algorithm lsq", ["'tensorrt8'", "tensorrt"]),
        ("table --store damaged", ["damaged"]),
        ("run --store damaged", ["damaged", "remove"]),
    ],
)
def test_wrong_requests_get_one_sentence_and_exit_2(
    run: Run, tmp_path: Path, command: str, words: list[str]
) -> None:
    (tmp_path / "a_file").write_text("x = 1\n")
    (tmp_path / "latin.py").write_bytes(b"ALGORITHM = '\xe9'\n")
    (tmp_path / "raising.py").write_text("ALGORITHM = nothing\n")
    (tmp_path / "number.py").write_text("ALGORITHM = 3\nARCHITECTURE = None\nOBSERVER = int\nEXECUTOR = 0\n")
    (tmp_path / "broken.toml").write_text("=")
    (tmp_path / "bad.toml").write_text('architecture = "a"\ndataset = "d"\nalgoritm = "lsq"\n')
    damaged = tmp_path / "damaged" / small()[0].key
    damaged.mkdir(parents=True)
    (damaged / "record.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    try:
        code, out, err = run(command)
    finally:
        forget("raising", "number")
    assert (code, out) == (2, ""), err
    assert err.startswith("mqbench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert all(word.lower() in err.lower() for word in words), err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_can_be_turned_into_its_float_networks(run: Run) -> None:
    _, out, _ = run("run default --algorithm float --json --jobs 1")
    settings = [record["setting"] for record in json.loads(out)["records"]]
    assert [(s["algorithm"], s["backend"], s["seed"]) for s in settings] == [
        ("float", None, seed) for seed in (0, 1, 2)
    ]


def test_an_encoding_without_the_signs_of_the_table(run: Run, tmp_path: Path) -> None:
    run(f"{SMALL} --jobs 1")
    command = [sys.executable, "-m", "mqbench", *SMALL.replace("run", "table", 1).split()]
    ascii_only = {**environment(), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=ascii_only, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "9 runs: 9 ok" in done.stdout
    assert "mean?sample std" in done.stdout


def test_help_and_version(run: Run) -> None:
    code, out, _ = run("--help")
    assert (code, all(name in out for name in ("run", "list", "table"))) == (0, True)
    assert run("")[0] == 0
    code, out, _ = run("run --help")
    assert (code, all(f"--{n.replace('_', '-')}" in out for n in Setting.model_fields)) == (0, True)
    assert run("--version")[:2] == (0, f"{mqbench.__version__}\n")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m mqbench list --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment(), check=False
    )
    assert (done.stdout, done.stderr) == ("[\n", "")


SLOW = """
import functools, sys
from mqbench import cli
from mqbench.commands import run
run.sweep = functools.partial(run.sweep, work="standin:run_slowly", data=sys.argv[1])
sys.exit(cli.main(sys.argv[2:]))
"""


def test_ctrl_c_stops_the_workers_and_keeps_the_records(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    arguments = [*SMALL.split(), "--jobs", "2", "--store", str(tmp_path / "runs")]
    command = [sys.executable, "-c", SLOW, str(tmp_path / "notes"), *arguments]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    store = Store(tmp_path / "runs")
    until(lambda: store.root.is_dir() and sum(setting in store for setting in small()) >= 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert err.splitlines()[-1].startswith(b"mqbench: interrupted")
    notes = str(tmp_path / "notes")
    assert not any(lives(pid) for setting in small() for pid in standin.calls(notes, setting))
    assert 2 <= sum(setting in store for setting in small()) < 9
    assert all(record == standin.record_of(record.setting) for record in store)


def display(*, terminal: bool, quiet: bool = False) -> tuple[progress.Display, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    return progress.Display(console, quiet=quiet), file


def finished(setting: Setting, **fields: Any) -> Finished:
    provenance = Provenance(
        started="", seconds=2.25, hostname="", machine="", threads=1, python="", versions={}
    )
    record = Record(setting=setting, provenance=provenance, **{"outcome": "ok", "accuracy": 97.25, **fields})
    return Finished(record)


def test_progress_in_a_pipe_is_a_line_for_each_run() -> None:
    one, two, three = small()[:3]
    listener, file = display(terminal=False)
    with listener:
        listener(Planned(10, 7))
        listener(Started(one))
        listener(Progress(one, "train", 1, 2))
        listener(Lost(one, "signal 9"))
        listener(finished(one))
        listener(finished(two, outcome="not_converged", accuracy=None))
        listener(finished(three, outcome="failed", reason="boom"))
    assert file.getvalue().splitlines() == [
        f"lost, and begun again: {one}: signal 9",
        f"[8/10] {one}: 97.2 % in 2.2 s",
        f"[9/10] {two}: NC in 2.2 s",
        f"[10/10] {three}: failed: boom",
    ]


def test_progress_in_a_pipe_can_be_quiet() -> None:
    listener, file = display(terminal=False, quiet=True)
    with listener:
        listener(Planned(1, 0))
        listener(finished(small()[0]))
    assert file.getvalue() == ""


def test_progress_on_a_terminal_shows_what_runs() -> None:
    one, two = small()[:2]
    listener, file = display(terminal=True, quiet=True)
    with listener:
        listener(Planned(10, 7))
        listener(Started(one))
        listener(Started(two))
        listener(Progress(one, "train", 7, 12))
        time.sleep(0.3)
        text = file.getvalue()
        listener(finished(one))
        file.truncate(0)
        time.sleep(0.3)
        after = file.getvalue()
    assert "7/10 runs" in text
    assert "left" in text
    assert f"{one} train 7/12" in " ".join(text.split())
    assert f"{two} start" in " ".join(text.split())
    assert "8/10 runs" in after
    assert str(one) not in after.rpartition("8/10")[2]
    assert str(two) in after


def test_a_finished_study_shows_no_progress() -> None:
    listener, file = display(terminal=True)
    with listener:
        listener(Planned(3, 3))
    assert file.getvalue().replace("\x1b[?25h", "") == ""


def test_a_warning_is_one_sentence_said_once(run: Run, tmp_path: Path) -> None:
    loud = tmp_path / "loud.py"
    loud.write_text(
        '"""Loud."""\nimport warnings\nfrom mqbench.backends import tvm\nBACKEND = tvm.BACKEND\n'
        'for _ in "ab":\n    warnings.warn("too\\nloud", RuntimeWarning)\n'
    )
    code, _, err = run(f"ladder --load {loud} --from academic --to loud --plan")
    assert (code, err) == (0, "mqbench: warning: too loud\n")


def test_a_network_of_a_loaded_file_may_be_asked_about(run: Run, tmp_path: Path) -> None:
    net = tmp_path / "net_of_mine.py"
    net.write_text(
        '"""Mine."""\nfrom mqbench.architectures import digits_resnet\nARCHITECTURE = digits_resnet.ARCHITECTURE\n'
    )
    code, out, _ = run(f"recommend --load {net} --backend tvm --architecture net_of_mine")
    assert (code, out.startswith("net_of_mine on tvm at w4a4: ")) == (0, True)
