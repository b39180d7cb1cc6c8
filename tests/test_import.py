"""What is imported when: the results wing never waits for torch, and plain commands not for polars."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import mqbench
import standin
from mqbench.catalog import Catalog
from mqbench.store import Store
from mqbench.study import load_study
from mqbench.sweep import plan

SOURCE = Path(mqbench.__file__).parents[1]
HEAVY = {"torch", "polars", "numpy", "sklearn"}


def imported_by(code: str) -> set[str]:
    """Top-level and mqbench modules that a new process has after some code."""
    program = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\n{code}\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("\n")[2].split() or done.stdout.split("\n")[-2].split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The default study, finished."""
    store = Store(tmp_path_factory.mktemp("finished") / "runs")
    for setting in plan(load_study("default").settings()):
        store.put(standin.record_of(setting))
    return store


def test_the_package_alone_imports_next_to_nothing() -> None:
    modules = imported_by("import mqbench")
    assert {name for name in modules if name.startswith("mqbench")} == {"mqbench"}
    assert not modules & {*HEAVY, "pydantic", "rich", "cyclopts", "asyncio", "multiprocessing"}


@pytest.mark.parametrize(
    "command", ["--help", "run --help", "--version", "list", "list studies", "list --json"]
)
def test_help_and_list_are_light(command: str) -> None:
    modules = imported_by(f"from mqbench.cli import main\nassert main({command.split()!r}) == 0")
    assert not modules & HEAVY
    assert not {name for name in modules if name.startswith(("mqbench.algorithms.", "mqbench.backends."))}


@pytest.mark.parametrize("command", ["table", "table --json", "run", "run --json", "run default --seeds 0"])
def test_a_finished_study_is_printed_without_torch(finished: Store, command: str) -> None:
    arguments = [*command.split(), "--store", str(finished.root)]
    modules = imported_by(f"from mqbench.cli import main\nassert main({arguments!r}) == 0")
    assert not modules & HEAVY
    assert "mqbench.runner" not in modules


def test_a_refused_name_costs_no_torch(tmp_path: Path) -> None:
    arguments = ["run", "default", "--backend", "nnie", "--store", str(tmp_path / "runs")]
    modules = imported_by(f"from mqbench.cli import main\nassert main({arguments!r}) == 2")
    assert not modules & HEAVY


def test_the_results_wing_imports_no_torch() -> None:
    wing = "record record_file store study metrics sweep catalog scheme errors frame report.rows report.table"
    modules = imported_by("\n".join(f"import mqbench.{name}" for name in wing.split()))
    assert not modules & HEAVY


def test_records_need_polars_only() -> None:
    modules = imported_by("import mqbench, tempfile\nmqbench.records(tempfile.mkdtemp())")
    assert "polars" in modules
    assert "torch" not in modules


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_public_names_are_what_they_should_be_after_any_import() -> None:
    imported_by("""
import os
from importlib import import_module
import lightning_fabric, polars, torch  # once, for all the children
for first in ("mqbench.runner", "mqbench.sweep", "mqbench.frame", "mqbench.preparation"):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, first
        continue
    import_module(first)
    import mqbench
    names = "run records prepare quantization_off calibrate calibrate_bn convert fake_quantizer"
    for name in names.split():
        value = getattr(mqbench, name)
        assert callable(value) and value.__name__ == name, name
    assert mqbench.run is sys.modules["mqbench.runner"].run
    os._exit(0)
""")


def test_every_listed_name_is_there() -> None:
    assert dir(mqbench) == sorted(mqbench.__all__)
    for name in dir(mqbench):
        assert getattr(mqbench, name) is getattr(mqbench, name)
    contract = "QuantScheme QParams Setting Record records run prepare calibrate calibrate_bn convert Store"
    assert {*contract.split(), "quantization_off", "fake_quantizer", "algorithms"} <= set(dir(mqbench))


def test_catalogs_are_mappings_and_packages() -> None:
    for catalog in (mqbench.algorithms, mqbench.backends, mqbench.observers, mqbench.architectures):
        assert isinstance(catalog, Catalog)
        assert isinstance(catalog, ModuleType)
        assert list(catalog)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = mqbench.nonsense


def test_the_version_is_that_of_the_project() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert mqbench.__version__ == tomllib.loads(text)["project"]["version"]
