"""Unite the records of several stores."""

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mqbench.commands._options import Json
from mqbench.commands._print import print_json
from mqbench.errors import RequestError
from mqbench.merge import merge as unite
from mqbench.store import Store

Points = Annotated[float, Parameter(validator=Number(gte=0))]


def merge(
    *stores: str,
    output: Annotated[str, Parameter(name=("--output", "-o"))],
    tolerance: Points = 0.0,
    as_json: Json = False,
) -> int:
    """Unite the records of several stores; refuse if two finished ones of a setting contradict each other.

    Args:
        stores: Folders or URLs of records.
        output: Store that takes them; it may have records already.
        tolerance: Points of accuracy by which two records of one setting may differ.
        as_json: Print JSON.

    Examples:
        mqbench merge east west -o all
    """
    if not stores:
        raise RequestError("merge what? give at least one store, such as: mqbench merge a b -o c")
    merged = unite([Store(store) for store in stores], Store(output), tolerance=tolerance)
    if as_json:
        print_json({"store": output, **asdict(merged)})
    else:
        print(
            f"{merged.written} records written to {output}, {merged.kept} were there, "
            f"{merged.agreeing} agree in several stores"
        )
    return 0


COMMAND = merge
