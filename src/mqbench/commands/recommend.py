"""Say which algorithm to use, and on what evidence."""

import re
import sys
from dataclasses import asdict

from rich.table import Table

from mqbench import catalog
from mqbench.commands._options import Files, Json
from mqbench.commands._print import console_of, print_json
from mqbench.errors import RequestError
from mqbench.record import Record
from mqbench.store import Store


def recommend(
    *,
    backend: str,
    architecture: str,
    bits: str = "4",
    dataset: str | None = None,
    store: str = "runs",
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Say which algorithm to use on a backend, from own records and the paper's, and on what evidence.

    Args:
        backend: Inference library; see `mqbench list backends`.
        architecture: Network; see `mqbench list architectures`.
        bits: Of weights and activations; w4a8 for a pair.
        dataset: Of own records.
        store: Folder or URL of own records; without any, the paper's alone.
        load: Python files that add architectures and so on.
        as_json: Print JSON.

    Examples:
        mqbench recommend --backend snpe --architecture mobilenetv2
        mqbench recommend --backend tvm --architecture resnet18 --bits w4a8 --store runs
    """
    for path in load:
        catalog.load(path)
    import mqbench
    from mqbench.recommend import recommend as answer

    mqbench.backends.check(backend)
    mqbench.architectures.check(architecture)
    match = re.fullmatch(r"w(\d+)a(\d+)|(\d+)", bits)
    if match is None:
        raise RequestError(f'bits: {bits!r} is not a number of bits or a pair such as "w4a8"')
    pair = (int(match[1] or match[3]), int(match[2] or match[3]))
    found = answer(_records(store), backend=backend, architecture=architecture, bits=pair, dataset=dataset)
    if as_json:
        print_json(asdict(found))
        return 0
    name = " or ".join(found.algorithms) or "no answer"
    console = console_of(sys.stdout)
    console.print(
        f"{architecture} on {backend} at w{pair[0]}a{pair[1]}: {name} ({found.strength})", markup=False
    )
    console.print(f"{found.reason}.", markup=False, soft_wrap=True)
    if found.evidence:
        table = Table(
            "Source", "Network", "Algorithm", "Top-1", "Runs", box=None, padding=(0, 2, 0, 0), pad_edge=False
        )
        for e in found.evidence:
            spread = "" if e.spread is None else f"±{e.spread:.1f}"
            runs = f"{e.runs}, {e.not_converged} NC" if e.not_converged else f"{e.runs}"
            table.add_row(e.source, e.place, e.algorithm, f"{e.mean:.1f}{spread}", runs)
        console.print("")
        console.print(table)
    return 0


def _records(store: str) -> list[Record]:
    place = Store(store)
    return list(place) if place.exists() else []


COMMAND = recommend
