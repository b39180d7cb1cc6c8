"""Files that a user adds: what their constant may be, and what their import may raise."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mqbench
from mqbench import catalog
from mqbench.errors import RequestError


@pytest.fixture
def added(tmp_path: Path) -> Iterator[Path]:
    """A file that can be added under a name of its own, and is forgotten afterwards."""
    yield tmp_path / "added_by_a_test.py"
    for entries in (mqbench.algorithms, mqbench.observers, mqbench.backends, mqbench.architectures):
        entries._added.pop("added_by_a_test", None)
        sys.modules.pop(f"{entries.__name__}.added_by_a_test", None)


def entry(path: Path, text: str, folder: str) -> Any:
    path.write_text(text)
    assert catalog.load(path) == [f"mqbench.{folder}"]
    return getattr(mqbench, folder)[path.stem]


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("from mqbench.algorithms.lsq import ALGORITHM as A\nALGORITHM = A", "algorithms"),
        ("from mqbench.observers.mse import MSE\nOBSERVER = MSE", "observers"),
        ("from mqbench.backends.tvm import BACKEND as B\nBACKEND = B", "backends"),
    ],
)
def test_what_fits_is_taken(added: Path, text: str, folder: str) -> None:
    assert entry(added, text, folder) is not None


@pytest.mark.parametrize(
    ("text", "folder", "said"),
    [
        ("ALGORITHM = 3", "algorithms", "ALGORITHM of .* must be an instance of Algorithm, got int 3"),
        ("ARCHITECTURE = None", "architectures", "must be an instance of Architecture, got NoneType None"),
        ("OBSERVER = int", "observers", "must be a subclass of Observer, got int"),
        ("OBSERVER = 0", "observers", "must be a subclass of Observer, got int 0"),
        ("BACKEND = {}", "backends", "must be an instance of Backend, got dict {}"),
        ("BACKEND = 1 / 0", "backends", "cannot import .*added_by_a_test.py: ZeroDivisionError: division"),
        ("import sys\nBACKEND = sys.exit()", "backends", "cannot import .*: SystemExit: no message"),
        ("import nowhere\nBACKEND = 0", "backends", "ModuleNotFoundError: No module named 'nowhere'"),
        ("BACKEND: int", "backends", "defines no BACKEND"),
    ],
)
def test_what_does_not_fit_is_refused(added: Path, text: str, folder: str, said: str) -> None:
    for _ in range(2):  # the first refusal leaves nothing that a second look would take
        with pytest.raises(RequestError, match=said):
            entry(added, text, folder)


def test_an_interrupt_is_no_fault_of_the_file(added: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        entry(added, "ALGORITHM = None\nraise KeyboardInterrupt", "algorithms")
    assert f"mqbench.algorithms.{added.stem}" not in sys.modules


@pytest.mark.parametrize("content", [b"ALGORITHM = '\xe9'", b"ALGORITHM = 1\0"])
def test_what_is_no_text_is_refused(added: Path, content: bytes) -> None:
    added.write_bytes(content)
    with pytest.raises(RequestError, match=f"cannot load {added}"):
        catalog.load(added)


def test_no_file_hides_a_method_of_its_catalog() -> None:
    """A file of the folder becomes an attribute of the package, which is the catalog itself."""
    methods = set(dir(catalog.Catalog))
    for package in catalog._CATALOGS.values():
        (folder,) = importlib.import_module(package).__path__
        assert not methods & {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
