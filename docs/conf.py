"""Sphinx: `make docs` builds the site from these pages, the commands' own help and the docstrings."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import mqbench
from mqbench.cli import ABOUT_ALL, app, examples

project = "mqbench"
version = release = mqbench.__version__
copyright = "the mqbench authors"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
templates_path: list[str] = []

html_theme = "furo"
html_title = "mqbench"
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
suppress_warnings = ["misc.highlighting_failure"]  # of what a cell prints

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_use_rtype = False

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"


def write_reference() -> None:
    """The pages that are made from the package itself."""
    REFERENCE.mkdir(exist_ok=True)
    text = app.generate_docs(output_format="markdown", recursive=True, heading_level=1)
    text = re.sub(r"(?m)^## mqbench (\w+)\n\n(?s:.*?```\n)", _with_examples, text.partition("\n")[2].lstrip())
    _write(REFERENCE / "commands.md", f"# Commands\n\n{ABOUT_ALL}\n\n{text}")
    _write(REFERENCE / "python.rst", _python())


def _with_examples(heading: re.Match[str]) -> str:
    commands: Any = import_module("mqbench.commands")
    return f"{heading[0]}\nFor example:\n\n```\n{inspect.cleandoc(examples(commands[heading[1]]))}\n```\n"


def _python() -> str:
    """One section for each public name, by what it is."""
    lines = ["Python", "======", "", "Everything that ``import mqbench`` offers.", ""]
    for name in mqbench.__all__:
        value: Any = getattr(mqbench, name)
        if isinstance(value, str):
            continue
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else "module"
        if inspect.ismodule(value) or not hasattr(value, "__qualname__"):
            kind = "module"
        lines += [name, "-" * len(name), ""]
        if kind == "module":
            lines += [f".. automodule:: mqbench.{name}", ""]
        else:
            path = f"{value.__module__}.{value.__qualname__}"
            lines += [f".. auto{kind}:: {path}", *(["   :members:"] if kind == "class" else []), ""]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


write_reference()
