"""Draw the forward map and gradient of algorithms."""

from pathlib import Path

import mqbench
from mqbench import catalog
from mqbench.commands._options import Files, Json, Whole
from mqbench.commands._print import print_json


def draw(
    *algorithms: str,
    output: str = "pictures",
    bits: Whole = 3,
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Draw the forward map and gradient of algorithms, one SVG each.

    Args:
        algorithms: Names; all of them if none is given.
        output: Folder of the pictures.
        bits: Of the drawn quantizers, where the algorithm allows it.
        load: Python files that add algorithms.
        as_json: Print JSON.
    """
    from mqbench.report.response import draw as draw_responses
    from mqbench.response import response

    for path in load:
        catalog.load(path)
    names = algorithms or tuple(mqbench.algorithms)
    for name in names:
        mqbench.algorithms.check(name)
    paths = []
    for name in names:
        paths.append(Path(output) / f"{name}.svg")
        draw_responses([response(name, "weight", bits), response(name, "activation", bits)], paths[-1])
    if as_json:
        print_json([str(path) for path in paths])
    else:
        print(f"{len(paths)} pictures in {output}/")
    return 0


COMMAND = draw
