"""The README's and docs' Python examples run as printed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for code in examples(page):
        exec(compile(code, str(page), "exec"), {"__name__": "example"})


def test_the_readme_has_one() -> None:
    assert len(examples(ROOT / "README.md")) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]
    assert not missing


def test_the_map_has_every_room() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Map")[2]
    named = set(re.findall(r"`(?:src/mqbench/)?(\w+)(?:\.py|/)`", text))
    package = ROOT / "src" / "mqbench"
    rooms = {path.stem for path in package.iterdir() if not path.name.startswith(("_", ".", "py.typed"))}
    assert rooms - named == set()
