"""The pictures of concepts.md are what `docs/draw_concepts.py` draws from the package as it is."""

import runpy
from pathlib import Path

import pytest

from test_layering import LEVEL

DOCS = Path(__file__).parents[1] / "docs"


def test_pictures_are_current(tmp_path: Path) -> None:
    runpy.run_path(str(DOCS / "draw_concepts.py"))["main"](str(tmp_path))
    drawn = sorted(tmp_path.iterdir())
    assert [path.name for path in drawn] == ["folding.svg", "graphs.svg", "rooms.svg"]
    for path in drawn:
        assert path.read_text(encoding="utf-8") == (DOCS / "pictures" / path.name).read_text(encoding="utf-8")


def test_every_room_is_drawn() -> None:
    floors = runpy.run_path(str(DOCS / "draw_concepts.py"))["FLOORS"]
    drawn = [room for floor in floors for _, rooms in floor for room in rooms.split()]
    assert sorted(drawn) == sorted(set(LEVEL) - {"py.typed", "__main__", "__init__"})
    lowest = [min(LEVEL[room] for _, rooms in floor for room in rooms.split()) for floor in floors]
    assert lowest[0] > lowest[1] > lowest[2] > lowest[-1]


@pytest.mark.parametrize(("graph", "count"), [(1, 4), (2, 5), (3, 6)])
def test_quantizers_of_the_graphs(graph: int, count: int) -> None:
    edges = list(runpy.run_path(str(DOCS / "draw_concepts.py"))["edges"](graph))
    assert len({quantizer for _, _, quantizer in edges if quantizer}) == count
    into_add = {producer: quantizer for producer, reader, quantizer in edges if reader == "add"}
    assert (into_add["conv2"] is None) == (graph != 3)
    assert (into_add["down"] is None) == (graph == 1)
