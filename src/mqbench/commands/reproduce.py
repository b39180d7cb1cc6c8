"""Run the setting of a record again and compare the results."""

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mqbench import catalog
from mqbench.commands._options import Files, Flag, Json
from mqbench.commands._print import print_json
from mqbench.record_file import plain
from mqbench.reproduce import Reproduction, find
from mqbench.reproduce import reproduce as make_again
from mqbench.store import Store

Points = Annotated[float, Parameter(validator=Number(gte=0))]


def reproduce(
    record: str,
    /,
    *,
    store: str = "runs",
    tolerance: Points = 0.0,
    keep_float: Flag = False,
    data: str | None = None,
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Run the setting of a record again, in a store of its own, and compare the results.

    Args:
        record: Key of the record or its beginning, or the path of its folder.
        store: Folder or URL of the records.
        tolerance: Points of accuracy that are allowed; on the same machine runs are equal to the bit.
        keep_float: Start from the float network of the store instead of training it again.
        data: Folder of the datasets; MQBENCH_DATA if not given.
        load: Python files that add algorithms, observers and so on.
        as_json: Print JSON.

    Examples:
        mqbench reproduce 03e40be0 --store runs
        mqbench reproduce runs/03e40be0a0485968 --tolerance 0.5 --data ~/data
    """
    for path in load:
        catalog.load(path)
    known, place = find(record, Store(store))
    from mqbench.runner import run  # torch, only once there is something to run

    found = make_again(known, run, store=place if keep_float else None, tolerance=tolerance, data=data)
    if as_json:
        print_json(
            {
                "key": known.setting.key,
                "reproduced": found.reproduced,
                "tolerance": tolerance,
                "differences": [{**asdict(d), "points": d.points} for d in found.found],
                "surroundings": found.surroundings,
                "record": plain(known),
                "again": plain(found.again),
            }
        )
    else:
        _show(found)
    return 0 if found.reproduced else 1


def _show(found: Reproduction) -> None:
    print(f"{found.record.setting}: {'reproduced' if found.reproduced else 'NOT reproduced'}", end="")
    print(" to the bit" if not found.found else f", within {found.tolerance:g} points" * found.reproduced)
    for difference in found.found:
        points = "" if difference.points is None else f", {difference.points:.3f} apart"
        print(f"  {difference}{points}")
    for name, (then, now) in found.surroundings.items():
        print(f"  made with {name} {then}, now {now}")


COMMAND = reproduce
