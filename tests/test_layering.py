"""The house: a room imports only rooms below it, and the results wing never imports torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "mqbench"

# from the floor up; a line's rooms may import each other
ROOMS = [
    {"errors", "py.typed"},
    {"catalog", "scheme", "compute", "sealed", "liveness", "files", "ending"},
    {"record"},
    {"grid"},
    {"record_file", "store", "object_store", "metrics", "columns", "journal", "study", "provenance"},
    {"latency_record"},
    {"compare"},
    {"merge", "reproduce"},
    {"index", "query"},
    {"frame"},
    {"paper"},
    {"recommend"},
    {"fused"},
    {"processes"},
    {"functional"},
    {"observers"},
    {"observation", "quantizer"},
    {"backends", "algorithm", "algorithms"},
    {"ladder"},
    {"report"},
    {"folding", "layers", "data_layer", "deferring"},
    {"functionalise", "lifting", "nodes", "attention", "operations"},
    {"capture"},
    {"placement", "plan", "absorption", "overwriting"},
    {"preparation"},
    {"calibration", "conversion", "deploy"},
    {"bias_correction"},
    {"data", "architectures"},
    {"response", "training", "weights", "tools"},
    {"extend"},
    {"task", "post_training", "elsewhere"},
    {"float_network"},
    {"quantization"},
    {"estimate"},
    {"runner"},
    {"deployment"},
    {"diagnosis"},
    {"claims"},
    {"executors"},
    {"schedule"},
    {"sweep"},
    {"progress", "arguments"},
    {"commands"},
    {"cli"},
    {"__main__", "__init__"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
RESULTS = [
    "errors",
    "catalog",
    "scheme",
    "liveness",
    "record",
    "record_file",
    "store",
    "metrics",
    "grid",
    "study",
    "object_store",
    "columns",
    "compare",
    "merge",
    "reproduce",
    "index",
    "query",
    "latency_record",
    "frame",
    "paper",
    "report",
    "recommend",
    "report.latency",
    "report.site",
    "report.watch",
    "report.reading",
]


def room(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Modules of this package that a file imports while it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("mqbench."))
        elif isinstance(node, ast.ImportFrom) and node.module == "mqbench":
            yield from (f"mqbench.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mqbench."):
            yield str(node.module)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = room(path)
    assert own in LEVEL, f"{own} has no place in ROOMS"
    for name in imports(path):
        other = name.split(".")[1]
        if other in LEVEL:  # a public name of the package itself is not a room
            assert LEVEL[other] <= LEVEL[own], f"{own} imports {other}, which is above it"


@pytest.mark.parametrize("name", RESULTS)
def test_results_need_no_torch(name: str) -> None:
    code = f"import sys, mqbench.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LONGER = {
    "quantized_network.py": "one file, so that it can be copied beside an artifact",
}


def test_files_are_one_idea() -> None:
    """300 lines asks for a reason."""
    long = {p.name for p in FILES if len(p.read_text(encoding="utf-8").splitlines()) > 300}
    assert not long - LONGER.keys()
