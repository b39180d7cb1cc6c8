"""Draw figures of records, or the forward map and gradient of algorithms."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import mqbench
from mqbench import catalog
from mqbench.commands._options import Files, Json, Whole
from mqbench.commands._print import print_json
from mqbench.errors import RequestError, UnknownNameError
from mqbench.store import Store


def draw(
    *what: str,
    output: Annotated[str, Parameter(name=("--output", "-o"))] = "pictures",
    store: str = "runs",
    where: str | None = None,
    bits: Whole = 3,
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Draw figures of records, such as curves or ranges, or what algorithms do to a number; SVG files.

    Args:
        what: Names of `mqbench list figures`, or algorithms, whose map and gradient are drawn; all of these if none.
        output: Folder of the pictures.
        store: Folder or URL of the records, for figures.
        where: Only those records, an SQL condition on the columns: "algorithm == 'lsq' and bits == 4".
        bits: Of the drawn quantizers of algorithms, where these allow it.
        load: Python files that add figures or algorithms.
        as_json: Print JSON.

    Examples:
        mqbench draw lsq pact
        mqbench draw curves ranges --where "algorithm == 'lsq'" -o pictures
    """
    for path in load:
        catalog.load(path)
    figures: Any = import_module("mqbench.report.figures")
    names = what or tuple(mqbench.algorithms)
    for name in names:
        if name not in figures and name not in mqbench.algorithms:
            raise UnknownNameError("figure or algorithm", name, [*figures, *mqbench.algorithms])
    asked = [name for name in names if name in figures]
    paths = list(_figures(figures, asked, Store(store), where, Path(output))) if asked else []
    paths += _responses([name for name in names if name not in figures], bits, Path(output))
    if as_json:
        print_json([str(path) for path in paths])
    else:
        print(f"{output}/: {', '.join(path.name for path in paths)}")
    return 0


def _figures(
    figures: Any, names: Sequence[str], store: Store, where: str | None, folder: Path
) -> Iterator[Path]:
    from mqbench.report.pictures import write
    from mqbench.report.reading import Reader

    context = Reader(store, where).read()
    for name in names:
        paths = list(write(figures[name].pictures(context), folder, name))
        if not paths:
            raise RequestError(f"there is nothing to draw for {name}. {figures[name].missing}")
        yield from paths


def _responses(names: Sequence[str], bits: int, folder: Path) -> Iterator[Path]:
    if not names:
        return
    from mqbench.report.response import draw as draw_responses
    from mqbench.response import response

    for name in names:
        path = folder / f"{name}.svg"
        draw_responses([response(name, "weight", bits), response(name, "activation", bits)], path)
        yield path


COMMAND = draw
