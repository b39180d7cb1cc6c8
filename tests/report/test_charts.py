"""Charts: their arithmetic, and that what they give is SVG."""

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqbench.report.charts import mini
from mqbench.report.charts.bars import Bar, bars
from mqbench.report.charts.dots import dots
from mqbench.report.charts.frame import apart
from mqbench.report.charts.heat import heat
from mqbench.report.charts.layers import Distribution, Span, distributions, spans
from mqbench.report.charts.lines import Line, lines
from mqbench.report.charts.scale import Scale, covering
from mqbench.report.charts.scatter import Point, front, scatter
from mqbench.report.charts.svg import standalone

NAMES = "<b>&\"'x</b>"
NUMBERS = st.floats(-1e6, 1e6)


@given(NUMBERS, st.floats(1e-3, 1e6), st.booleans())
def test_ticks_are_within_and_few(low: float, room: float, log: bool) -> None:
    low = abs(low) + 1e-3 if log else low
    scale = Scale(low=low, high=low + room, start=0.0, end=100.0, log=log)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 40
    assert all(a < b for a, b in pairwise(ticks))
    assert all(-0.01 <= scale(tick) <= 100.01 for tick in ticks)


def test_a_scale_maps_ends_to_ends() -> None:
    scale = Scale(low=1.0, high=100.0, start=10.0, end=30.0, log=True)
    assert [scale(v) for v in (1.0, 10.0, 100.0)] == pytest.approx([10.0, 20.0, 30.0])


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=5))
def test_covering_ends_differ(values: list[float]) -> None:
    low, high = covering([v for v in values if not math.isfinite(v) or abs(v) < 1e300])
    assert low < high


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_labels_keep_apart_and_in_order(wanted: list[float]) -> None:
    places = apart(wanted, 10.0, 0.0, 200.0)
    assert all(b - a >= 10.0 - 1e-6 for a, b in pairwise(sorted(places)))
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    assert all(places[a] <= places[b] for a, b in pairwise(order))


@given(st.lists(st.tuples(st.floats(1, 9), st.floats(0, 99)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(values: list[tuple[float, float]]) -> None:
    points = [Point(name="n", series="s", x=x, y=y) for x, y in values]
    best = {(p.x, p.y) for p in front(points)}
    for x, y in values:
        beaten = any((a <= x and b >= y) and (a < x or b > y) for a, b in values)
        assert ((x, y) in best) == (not beaten)


def drawings() -> list[str]:
    layer = Distribution(name=NAMES, low=-1.0, high=1.0, counts=[0, 3, 9, 1], clip=(-0.5, 0.5))
    return [
        lines(
            [Line(name=NAMES, x=[0, 1, 2], y=[1.0, math.nan, 2.0], raw=[1.0, 2.0, 3.0])],
            x=NAMES,
            y="y",
            says=NAMES,
        ),
        lines([Line(name="one point", x=[3], y=[1.0])], x="x", y="y", says="s"),
        heat({("r", NAMES): 1.0, ("r", "b"): 0.0}, ["r", "empty"], [NAMES, "b"], says=NAMES),
        dots({("g", NAMES): 3.0}, ["g"], [NAMES, "lacks"], y="y", says=NAMES),
        scatter([Point(name=NAMES, series=NAMES, x=1.0, y=2.0)] * 9, x="x", y="y", says=NAMES),
        bars([Bar(name=NAMES, value=-0.5, low=-1.0, high=0.0)], x="x", says=NAMES),
        distributions([layer], y="y", says=NAMES),
        spans([NAMES, "b"], [Span(name=NAMES, ranges=[(-1.0, 1.0), (0.0, 2.0)])], y="y", says=NAMES),
    ]


@pytest.mark.parametrize("svg", drawings(), ids=lambda svg: str(len(svg)))
def test_drawings_are_svg_and_say_what_they_show(svg: str) -> None:
    for text in (svg, standalone(svg)):
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.attrib["aria-label"]
        assert root.attrib["role"] == "img"
        numbers = root.attrib["viewBox"].split()
        assert all(math.isfinite(float(number)) for number in numbers)
        assert "nan" not in text.lower()
        assert not root.findall(".//{http://www.w3.org/2000/svg}b")


def test_a_gap_is_left_out_of_a_line() -> None:
    svg = lines([Line(name="n", x=[0, 1, 2], y=[1.0, math.nan, 2.0])], x="x", y="y", says="s")
    (path,) = ElementTree.fromstring(svg).findall(".//*[@class='line']")
    assert path.attrib["d"].count("L") == 1


def test_a_heat_map_is_strongest_at_the_largest() -> None:
    svg = heat({("r", "a"): 1.0, ("r", "b"): 4.0}, ["r"], ["a", "b"], says="s")
    found = ElementTree.fromstring(svg).findall(".//*[@class='heat']")
    weak, strong = (float(e.attrib["fill-opacity"]) for e in found)
    assert strong == pytest.approx(0.5)  # text is read on it
    assert weak == pytest.approx(strong / 4, abs=0.01)


def test_small_histogram_has_every_bar_and_the_marks_within() -> None:
    root = ElementTree.fromstring(mini.histogram([0, 28, 7], (1.0, 9.0)))
    area, marks = root.findall("path")
    assert area.attrib["d"] == "M0 28V28h1V0h1V21h1V28z"
    assert marks.attrib["d"] == "M1.0 0V28"  # the other end lies outside of the histogram


@pytest.mark.parametrize(
    ("lows", "highs"), [([0.0], [1.0]), ([0.0, 0.0], [0.0, 0.0]), ([-1.0, -2.0, 0.0], [1.0, 2.0, 3.0])]
)
def test_small_bands(lows: list[float], highs: list[float]) -> None:
    (path,) = ElementTree.fromstring(mini.band(lows, highs)).findall("path")
    points = path.attrib["d"].strip("Mz").split("L")
    assert len(points) == 2 * max(2, len(lows))
    assert all(0 <= float(point.split()[1]) <= mini.HEIGHT for point in points)
