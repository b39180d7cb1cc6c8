"""The report in a real browser, opened from the disk; skipped where there is no Chromium."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqbench.report.reading import Reader
from mqbench.report.site import Site
from mqbench.store import Store
from small_store import fill, made, measure, table

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install 'mqbench[dev]'")
CHROMIUM = os.environ.get("MQBENCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE = {"width": 360, "height": 740}
PAGES = (
    "index",
    "leaderboard",
    "paper",
    "latency",
    "spread",
    "means",
    "ladders",
    "curves",
    "activations",
    "ranges",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    eight = [made(60.0 + seed, bits=8, backend="tvm", seed=seed) for seed in range(2)]
    store = fill(folder / "runs", [*table(), *eight, made(architecture="mobilenetv2" * 5, dataset="a" * 70)])
    measure(store)
    Site(Reader(store).read()).build(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A tab in which nothing may go wrong; its context takes what the test asks for."""
    context = browser.new_context(**getattr(request, "param", {}))
    page = context.new_page()
    wrong: list[str] = []
    page.on(
        "console",
        lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith("file:") else wrong.append(asked.url))
    yield page
    context.close()
    assert wrong == []


def column(tab: Any, number: int) -> list[str]:
    found: list[str] = tab.locator(f"#board tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()
    return found


@pytest.mark.parametrize("tab", [{}, {"viewport": PHONE}], indirect=True, ids=["desk", "phone"])
def test_every_page_opens_and_none_is_wider_than_the_screen(tab: Any, site: Path) -> None:
    run = made(67.0).setting.key
    for name in (*PAGES, "initialisation", f"runs/{run}"):
        tab.goto((site / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name


def test_sorting(tab: Any, site: Path) -> None:
    tab.goto((site / "leaderboard.html").as_uri())
    head = tab.locator("#board th", has_text="Accuracy")
    tab.get_by_role("button", name="Accuracy").click()
    assert head.get_attribute("aria-sort") == "descending"
    shown = column(tab, 4)
    numbers = [float(text.split("±")[0].split("\n")[0]) for text in shown if text[0].isdigit()]
    assert numbers == sorted(numbers, reverse=True)
    assert shown[-2:] == ["NC", "failed"]  # 0, and nothing at all
    tab.get_by_role("button", name="Accuracy").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(tab, 4)[0] == "NC"
    assert column(tab, 4)[-1] == "failed"
    tab.get_by_role("button", name="Algorithm").focus()
    tab.keyboard.press("Enter")
    assert column(tab, 1) == sorted(column(tab, 1))
    assert head.get_attribute("aria-sort") is None
    tab.reload()  # the address remembers
    assert tab.locator("#board th", has_text="Algorithm").get_attribute("aria-sort") == "ascending"


def test_filtering(tab: Any, site: Path) -> None:
    tab.goto((site / "leaderboard.html").as_uri())
    every = len(column(tab, 1))
    for label, value, number in (("Backend", "tvm", 2), ("Bits", "w4a4", 3), ("Algorithm", "lsq", 1)):
        tab.get_by_role("combobox", name=label, exact=True).select_option(value)
        assert {text.lower() for text in column(tab, number)} == {value}
    tab.get_by_role("combobox", name="Network").select_option("resnet18")
    assert len(column(tab, 1)) == 1
    assert tab.get_by_role("status").or_(tab.locator("output")).inner_text() == f"1 of {every} rows"
    tab.reload()
    assert len(column(tab, 1)) == 1
    tab.get_by_role("button", name="Reset").click()
    tab.locator("#board tbody tr:not([hidden])").nth(1).wait_for()  # no eval: the page forbids it
    assert len(column(tab, 1)) == every
    tab.get_by_role("searchbox", name="Words").fill("PACT fbgemm")
    assert column(tab, 1) == ["pact"]


def test_of_many_rows_the_first_are_shown(tab: Any, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqbench.report.pages.leaderboard.ROWS", 3)
    Site(Reader(Store(site.parent / "runs")).read()).build(site.parent / "short")
    tab.goto((site.parent / "short" / "leaderboard.html").as_uri())
    said = tab.locator("output")
    assert (len(column(tab, 1)), said.inner_text()) == (3, "the first 3 of 11 that fit, of 11 rows")
    tab.get_by_role("button", name="Accuracy").click()
    assert [text[:4] for text in column(tab, 4)] == ["71.0", "70.1", "70.0"]
    tab.get_by_role("combobox", name="Backend").select_option("fbgemm")
    assert (len(column(tab, 1)), said.inner_text()) == (3, "3 of 11 rows")
    tab.get_by_role("combobox", name="Backend").select_option("")
    tab.get_by_role("button", name="Show all rows").click()
    assert (len(column(tab, 1)), said.inner_text()) == (11, "11 of 11 rows")
    assert not tab.get_by_role("button", name="Show all rows").is_visible()


def test_from_the_overview_to_a_run_by_keyboard_and_link(tab: Any, site: Path) -> None:
    tab.goto((site / "index.html").as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab.get_by_role("link", name="Leaderboard", exact=True).first.click()
    tab.locator("#board tbody a").first.click()
    assert re.search(r"/runs/[0-9a-f]{16}\.html$", tab.url)
    assert "mqbench run" in tab.locator("pre").inner_text()
    tab.get_by_role("link", name="Overview").click()
    assert tab.url.endswith("/index.html")


def test_layers_of_a_run_are_sorted_and_drawn(tab: Any, site: Path) -> None:
    tab.goto((site / "runs" / f"{made(67.0).setting.key}.html").as_uri())
    assert tab.locator("#layers .mini").first.bounding_box()["height"] == 28
    tab.get_by_role("button", name="Of", exact=True).click()
    roles = tab.locator("#layers tbody td:nth-child(2)").all_inner_texts()
    assert roles == sorted(roles)
    tab.locator("summary").first.click()
    assert tab.get_by_role("table", name="Training curve").is_visible()


@pytest.mark.parametrize(
    ("tab", "first", "then"),
    [({"color_scheme": "light"}, "Dark", "Light"), ({"color_scheme": "dark"}, "Light", "Dark")],
    indirect=["tab"],
)
def test_theme(tab: Any, site: Path, first: str, then: str) -> None:
    tab.goto((site / "curves.html").as_uri())
    ground = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('svg .s1')).color"
    before = tab.evaluate(ground), tab.evaluate(line)
    tab.get_by_role("button", name=first).click()
    after = tab.evaluate(ground), tab.evaluate(line)
    assert before[0] != after[0]
    assert before[1] != after[1]
    tab.goto((site / "index.html").as_uri())  # the choice is kept
    assert tab.evaluate(ground) == after[0]
    assert tab.get_by_role("button", name=then).is_visible()


@pytest.mark.parametrize("tab", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_all_is_there_and_no_control_is_dead(tab: Any, site: Path) -> None:
    tab.goto((site / "leaderboard.html").as_uri())
    assert tab.locator("#board tbody tr").count() == 11
    assert tab.locator("button:visible, select:visible").count() == 0


def test_an_open_page_follows_a_watched_store(tab: Any, tmp_path: Path) -> None:
    store = fill(tmp_path / "runs", [made()])
    Site(Reader(store).read(), live=1).build(tmp_path / "site")
    tab.goto((tmp_path / "site" / "index.html").as_uri())
    store.put(made(algorithm="pact"))
    Site(Reader(store).read(), live=1).build(tmp_path / "site")
    tab.locator("tbody th", has_text="pact").wait_for(timeout=20_000)
    tab.get_by_role("button", name="Live").click()
    assert tab.get_by_role("button", name="Live").get_attribute("aria-pressed") == "false"
