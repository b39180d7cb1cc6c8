"""The notebooks of the docs run from top to bottom, each in a folder of its own."""

import os
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))
SECONDS = 600
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every_notebook
def test_its_python_is_python(path: Path) -> None:
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert cells
    for text in cells:
        cell = re.sub(r"^:tags:.*\n", "", text).lstrip()
        if not cell.startswith("%%") or re.match(r"%%writefile \S+\.py\n", cell):
            compile(re.sub(r"^%%.*\n", "", cell), path.name, "exec")


@pytest.mark.slow  # a minute or two each, and `make docs` executes them too
@every_notebook
def test_every_cell_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel", reason="the notebooks need pip install 'mqbench[docs]'")
    reading = pytest.importorskip("myst_nb.core.read")
    executing = pytest.importorskip("nbclient")
    # the kernel's `mqbench` is that of this interpreter and of this tree
    places = [
        str(_command(tmp_path)),
        str(Path(sys.executable).parent),
        os.environ["PATH"],
    ]  # the second has `ray`
    monkeypatch.setenv("PATH", os.pathsep.join(places))
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent / "src"))
    work = tmp_path / "work"
    work.mkdir()
    notebook = reading.read_myst_markdown_notebook(path.read_text(encoding="utf-8"))
    client = executing.NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(work)}}
    )
    client.execute()
    assert [c for c in notebook.cells if c.cell_type == "code"]


def _command(folder: Path) -> Path:
    place = folder / "bin"
    place.mkdir()
    script = place / "mqbench"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mqbench "$@"\n')
    script.chmod(0o755)
    return place
