"""The site as files: whole, self-contained, escaped, readable, atomic, and drawn again only where it must be."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mqbench import sealed
from mqbench.errors import RequestError
from mqbench.report import site as site_module
from mqbench.report.frame import HERE
from mqbench.report.reading import Reader
from mqbench.report.site import MANIFEST, Built, Site
from mqbench.store import Store
from processes import environment
from small_store import diagnostics, fill, made, measure, table

EVIL = "folder:<script>alert(1)</script>\"&'"
VOID = {"meta", "input", "br", "img", "link", "hr", "path", "line", "rect", "circle"}


class Page(HTMLParser):
    """Tags that balance, ids, links and tables of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.attributes.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.links.append(str(given["href"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.open)


def build(store: Store, output: Path, **given: Any) -> Built:
    return Site(Reader(store, **given).read()).build(output)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    folder = tmp_path_factory.mktemp("report")
    store = fill(folder / "runs", [*table(), made(dataset=EVIL), made(dataset=EVIL, algorithm="pact")])
    measure(store)
    build(store, folder / "site")
    return store, folder / "site"


def pages(site: Path) -> dict[str, Page]:
    return {str(p.relative_to(site)): Page(p.read_text(encoding="utf-8")) for p in site.rglob("*.html")}


def test_there_is_a_page_for_everything(built: tuple[Store, Path]) -> None:
    found = pages(built[1])
    for name in ("index", "leaderboard", "paper", "latency", "spread", "means", "ladders", "curves", "activations",
                 "ranges", "initialisation"):  # fmt: skip
        assert f"{name}.html" in found
    assert {f"runs/{record.setting.key}.html" for record in built[0]} <= found.keys()


def test_links_lead_to_pages_and_every_run_is_reached(built: tuple[Store, Path]) -> None:
    site, reached = built[1], set()
    for name, page in pages(site).items():
        assert len(page.ids) == len(set(page.ids)), name
        for link in page.links:
            file, _, anchor = link.partition("#")
            target = (site / name).parent / file if file else site / name
            assert target.is_file(), (name, link)
            assert not anchor or anchor in pages_of(target).ids
            reached.add(target.resolve())
    assert {path.resolve() for path in site.rglob("*.html")} == reached


def pages_of(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_anywhere(built: tuple[Store, Path]) -> None:
    for path in built[1].rglob("*.html"):
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|//[a-z]|url\(|@import|\ssrc=", text), path
        script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
        assert script
        digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in pages_of(
            path
        ).attributes


def test_names_cannot_become_markup(built: tuple[Store, Path]) -> None:
    for path in built[1].rglob("*.html"):
        assert text_without_script(path).count("<script") == 0
        assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)", "", text_without_script(path)), path


def text_without_script(path: Path) -> str:
    return re.sub(r"<script>.*?</script>", "", path.read_text(encoding="utf-8"), count=1, flags=re.DOTALL)


def test_tables_and_pictures_say_what_they_are(built: tuple[Store, Path]) -> None:
    for path in built[1].rglob("*.html"):
        text, found = path.read_text(encoding="utf-8"), pages_of(path)
        assert text.count("<caption>") == text.count("<table")
        for tag, given in found.attributes:
            if tag == "th":
                assert given.get("scope") in ("col", "row"), path
            if tag == "svg":
                assert given.get("aria-label") or given.get("aria-hidden") == "true", path
            if tag == "div" and given.get("class") == "scroll":
                assert (given["role"], given["tabindex"]) == ("region", "0")
                assert given["aria-label"]
        assert "Skip to the content" in text
        assert text.count("<h1>") == 1


def test_the_page_of_a_run(built: tuple[Store, Path]) -> None:
    record = made(67.0, seed=0)
    text = (built[1] / "runs" / f"{record.setting.key}.html").read_text(encoding="utf-8")
    assert (
        "mqbench run --architecture resnet18 --dataset imagenet --algorithm lsq --backend tvm --bits w4a4"
        in text
    )
    assert f"mqbench reproduce {record.setting.key}" in text
    assert "machine-7" in text
    assert text.count('class="mini"') == 6  # a band and a histogram for each of three quantizers
    for seed in (1, 2):
        assert f'href="{made(seed=seed).setting.key}.html"' in text
    assert f'href="{record.setting.float_setting.key}.html"' in text


def test_runs_that_did_not_end_well_say_why(built: tuple[Store, Path]) -> None:
    nc = made(algorithm="dorefa", backend="tvm").setting.key
    failed = made(algorithm="dorefa", backend="fbgemm").setting.key
    assert "exploding scale. the scale of conv1 is 2e6" in (built[1] / f"runs/{nc}.html").read_text()
    assert "Traceback: &lt;b&gt;boom&lt;/b&gt;" in (built[1] / f"runs/{failed}.html").read_text()


def test_a_public_site_does_not_name_the_machine(tmp_path: Path) -> None:
    failed = made(backend="fbgemm").model_copy(
        update={"outcome": "failed", "reason": "OSError: /home/me", "error": "File /home/me/x.py"}
    )
    store = fill(tmp_path / "runs", [made(), failed])
    private = ("machine-7", str(tmp_path), "/home/me")
    for public in (False, True):  # the second build must not take the pages of the first
        build(store, tmp_path / "site", public=public)
        text = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.html"))
        assert [name in text for name in private] == [not public] * 3
    assert "Failed: OSError<" in text
    assert f"mqbench reproduce {made().setting.key} --store runs<" in text


def test_latencies_are_put_against_accuracies(built: tuple[Store, Path]) -> None:
    text = (built[1] / "latency.html").read_text(encoding="utf-8")
    assert "Accuracy over latency: imagenet, batch 1, 224 x 224, 1 thread" in text
    assert (
        '<th scope="row">resnet18 w4a4 lsq</th><td>onnxruntime</td><td class="n" data-v="3.0">3.00</td>'
        in text
    )


def test_the_papers_cell_stands_beside_ours(built: tuple[Store, Path]) -> None:
    text = (built[1] / "paper.html").read_text(encoding="utf-8")
    assert re.search(r'data-v="67\.7">67\.7\s*<span class="small">ours 67\.1 \(-0\.6\)</span>', text)


def test_a_certificate_stands_with_its_run(tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", [made()])
    artifact = tmp_path / "artifacts" / "one"
    artifact.mkdir(parents=True)
    certificate = {
        "network": {"setting": made().setting.key},
        "engine": {"runtime": "onnxruntime", "version": "9.9"},
        "agreement": {"integer_and_engine": {"integers": {"count": 10, "equal": 9}}},
        "accuracy": {"engine": 69.5},
        "files": {"model.onnx": "abc"},
        "missed": [],
    }
    (artifact / "certificate.json").write_text(sealed.text(certificate))
    build(store, tmp_path / "site", artifacts=[str(tmp_path / "artifacts")])
    text = (tmp_path / "site" / "runs" / f"{made().setting.key}.html").read_text()
    assert "one: onnxruntime 9.9: 1 of 10 integers differ to the integer reference, bar passed." in text
    assert "certified" in (tmp_path / "site" / "leaderboard.html").read_text()
    (artifact / "certificate.json").write_text(sealed.text(certificate).replace("69.5", "79.5"))
    with pytest.raises(RequestError, match="damaged: it is not what was written"):
        build(store, tmp_path / "site", artifacts=[str(artifact)])


def test_only_what_changed_is_drawn_again(tmp_path: Path) -> None:
    store, site = fill(tmp_path / "runs", table()), tmp_path / "site"
    assert build(store, site).reused == 0
    before = {path.name: path.stat().st_ino for path in (site / "runs").iterdir()}
    assert build(store, site).reused == len(table())
    store.put(made(60.0, seed=3), diagnostics())
    again = build(store, site)
    siblings = {made(seed=seed).setting.key for seed in range(4)}
    assert again.reused == len(table()) - 3  # the pages of its siblings name it
    for path in (site / "runs").iterdir():
        assert (path.stat().st_ino == before.get(path.name)) == (path.stem not in siblings)


def test_several_processes_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(tmp_path / "runs", table())
    monkeypatch.setattr("mqbench.report.drawing._WORTHWHILE", 1)
    build(store, tmp_path / "one")
    Site(Reader(store).read(), processes=2).build(tmp_path / "two")
    for path in (tmp_path / "one" / "runs").iterdir():
        assert path.read_text() == (tmp_path / "two" / "runs" / path.name).read_text()


def test_what_is_no_site_is_left_alone(tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", [made()])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for place in (tmp_path / "mine", tmp_path / "mine" / "thesis.tex", tmp_path / "runs"):
        with pytest.raises(RequestError, match="is no site of mqbench report"):
            build(store, place)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "runs"]


def test_a_build_that_fails_leaves_the_old_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, site = fill(tmp_path / "runs", [made()]), tmp_path / "site"
    build(store, site)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}

    def broken(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(site_module, "drawn", broken)
    store.put(made(seed=1))
    with pytest.raises(KeyboardInterrupt):
        build(store, site)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_leftovers_of_killed_builds_are_removed(tmp_path: Path) -> None:
    store, site = fill(tmp_path / "runs", [made()]), tmp_path / "site"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".site.new.{dead.pid}").mkdir()
    (tmp_path / f".site.new.{os.getppid()}").mkdir()
    build(store, site)
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert left == [f".site.new.{os.getppid()}"]  # somebody is at work on it
    assert json.loads((site / MANIFEST).read_text())["made_by"] == "mqbench report"


def test_a_damaged_manifest_is_no_site(tmp_path: Path) -> None:
    store, site = fill(tmp_path / "runs", [made()]), tmp_path / "site"
    build(store, site)
    (site / MANIFEST).write_text("{")
    with pytest.raises(RequestError, match="is no site"):
        build(store, site)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_can_be_read_in_both_themes(mode: str) -> None:
    css = (HERE / "assets" / "report.css").read_text(encoding="utf-8")
    block = re.search(
        r":root\[data-theme=dark\]\{(.*?)\}" if mode == "dark" else r"^:root\{(.*?)\}", css, re.S | re.M
    )
    assert block
    colours = dict(re.findall(r"--([\w]+):(#[0-9a-f]+)", block[1]))
    # what the system prefers is what the toggle gives
    preferred = re.search(
        r"prefers-color-scheme:dark\)\{:root:not\(\[data-theme=light\]\)\{(.*?)\}\}", css, re.DOTALL
    )
    assert preferred
    assert mode == "light" or dict(re.findall(r"--([\w]+):(#[0-9a-f]+)", preferred[1])) == colours
    texts = ("ink", "muted", "link", "good", "bad", "warn", *(f"s{i}" for i in range(8)))
    for name in texts:
        for ground in ("surface", "raised"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    strongest = mixed(colours["heat"], colours["surface"], 0.5)
    assert contrast(colours["ink"], strongest) >= 4.5


def rgb(colour: str) -> list[int]:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    return [int(digits[i : i + 2], 16) for i in (0, 2, 4)]


def mixed(above: str, below: str, share: float) -> str:
    pairs = zip(rgb(above), rgb(below), strict=True)
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def contrast(first: str, second: str) -> float:
    """Of WCAG 2.2."""

    def luminance(colour: str) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (v / 255 for v in rgb(colour))
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_a_store_without_seeds_or_diagnostics_has_all_pages(tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", [made(algorithm="float", dataset="digits")], beside=False)
    build(store, tmp_path / "site")
    for name, page in pages(tmp_path / "site").items():
        assert page.links, name
    for name in ("curves", "activations", "ranges", "initialisation", "ladders"):
        assert "There is nothing to draw yet." in (tmp_path / "site" / f"{name}.html").read_text()


def test_the_wheel_has_templates_and_assets() -> None:
    """hatch takes every file of the package that git knows; a rule that ignores some would break the report."""
    files = [p for p in HERE.rglob("*") if p.suffix in (".html", ".css", ".js")]
    assert len(files) >= 9
    ignored = subprocess.run(
        ["git", "check-ignore", *map(str, files)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert ignored.stdout == ""


def test_the_figure_of_the_docs_can_be_added(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example
    file = tmp_path / "time_of_runs.py"
    file.write_text(example[1])
    fill(tmp_path / "runs", table(), beside=False)
    command = [sys.executable, "-m", "mqbench"]
    for words in (["report"], ["draw", "time_of_runs", "-o", "pictures"]):
        subprocess.run([*command, *words, "--load", str(file)], cwd=tmp_path, env=environment(), check=True)
    assert "Accuracy over time" in (tmp_path / "site" / "time_of_runs.html").read_text()
    assert 'href="time_of_runs.html"' in (tmp_path / "site" / "index.html").read_text()
    assert (tmp_path / "pictures" / "time_of_runs-accuracy-over-time.svg").exists()
