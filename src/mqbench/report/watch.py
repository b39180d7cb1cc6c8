"""A site that follows its store."""

import time
from collections.abc import Callable
from pathlib import Path

from mqbench.errors import RequestError
from mqbench.report.context import Context
from mqbench.report.reading import Reader
from mqbench.report.site import Built, Site


def watch(
    reader: Reader,
    output: Path,
    *,
    every: float,
    told: Callable[[Built, Context], None],
    waiting: Callable[[str], None],
    processes: int = 1,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Build the site now and whenever the records have changed, until it is interrupted.

    Args:
        reader: of the store, which must be there; it may be empty yet.
        output: folder of the site.
        every: seconds between two looks at the store.
        told: is called after each build.
        processes: see `Site`.
        waiting: is called, once, with the reason why there is nothing to build yet.
        pause: waits; to be replaced in tests.

    Raises:
        StoreError: the store cannot be read.
        RequestError: the site cannot be written.
    """
    reader.store.check_readable()
    seen: object = None
    waits = False
    while True:
        now = reader.stamp()
        if now != seen:
            seen = now
            try:
                context = reader.read()
            except RequestError as error:
                if waits:
                    pause(every)
                    continue
                waiting(str(error))
                waits = True
            else:
                site = Site(context, live=max(2, round(2 * every)), processes=processes)
                told(site.build(output), context)
        pause(every)
