"""Write the records as a web site that needs no network."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mqbench import catalog
from mqbench.commands._options import Files, Flag, Json
from mqbench.commands._print import print_json
from mqbench.errors import RequestError
from mqbench.store import Store

if TYPE_CHECKING:
    from mqbench.report.context import Context
    from mqbench.report.site import Built

Folders = Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=True, show_default=False)]


def report(
    store: str = "runs",
    /,
    *,
    output: Annotated[str, Parameter(name=("--output", "-o"))] = "site",
    where: str | None = None,
    artifacts: Folders = (),
    public: Flag = False,
    watch: Flag = False,
    every: float = 2.0,
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Write the records as a web site that needs no network: tables, figures, a page for each run.

    Args:
        store: Folder or URL of the records.
        output: Folder of the site; an older site of this command gives way, as a whole.
        where: Only those records, an SQL condition on the columns: "backend == 'tvm' and bits == 4".
        artifacts: Folders from mqbench quantize, or a folder of such; their certificates go with the runs.
        public: Without hostnames, the path of the store, and messages of failed runs: to be published.
        watch: Build again whenever the records change, until Ctrl-C; open pages follow.
        every: Seconds between two looks at the records, with --watch.
        load: Python files that add pages or figures.
        as_json: Print JSON.

    Examples:
        mqbench report
        mqbench report runs -o site --artifacts shipped --public
        mqbench report --where "architecture == 'resnet18'" --watch
    """
    from mqbench.report.drawing import cores
    from mqbench.report.reading import Reader
    from mqbench.report.site import Site, check
    from mqbench.report.watch import watch as follow

    for path in load:
        catalog.load(path)
    if not every > 0:
        raise RequestError(f"--every takes a number of seconds above 0, got {every:g}")
    place = Path(output)
    check(place)
    reader = Reader(Store(store), where, artifacts, public=public)

    def told(built: "Built", context: "Context") -> None:
        _print(built, context, place, as_json=as_json)

    if not watch:
        context = reader.read()
        told(Site(context, processes=cores()).build(place), context)
        return 0
    try:
        follow(
            reader,
            place,
            every=every,
            told=told,
            waiting=lambda reason: print(f"waiting: {reason}", file=sys.stderr),
            processes=cores(),
        )
    except KeyboardInterrupt:
        return 0
    return 0


def _print(built: "Built", context: "Context", place: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"site": str(place), "records": len(context.records), **asdict(built)})
    else:
        kept = f", run pages as before: {built.reused}" if built.reused else ""
        count = len(context.records)
        print(
            f"{place / 'index.html'}: {built.pages} pages, {built.size / 1e6:.1f} MB, from "
            f"{count} record{'s' if count != 1 else ''} in {built.seconds:.1f} s{kept}",
            flush=True,
        )


COMMAND = report
