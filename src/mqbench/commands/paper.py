"""Print the paper's tables and figures, or its claims recomputed from them."""

import sys
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mqbench.commands._options import Json
from mqbench.commands._print import console_of, print_frame, print_json
from mqbench.errors import RequestError, UnknownNameError

_STYLES = {"reproduced": "green", "partly": "yellow", "not reproduced": "red", "undecidable": "dim"}


def paper(what: str, which: str | None = None, /, *, as_json: Json = False) -> int:
    """Print the paper's tables as records, or its claims recomputed from them.

    Args:
        what: table, figure or claims.
        which: 4 to 11 of table; 5, 6-left or 6-right of figure; of claims a section, such as 5.4, or nothing.
        as_json: Print JSON.

    Examples:
        mqbench paper claims 5.4
        mqbench paper table 7
        mqbench paper figure 6-left
    """
    if what == "claims":
        return _claims(which, as_json=as_json)
    if what not in ("table", "figure"):
        raise UnknownNameError("part of the paper", what, ("claims", "figure", "table"))
    import mqbench.paper

    if which is None:
        raise RequestError(f"which {what}? tables are 4 to 11, figures 5, 6-left and 6-right")
    if what == "table" and not which.isdecimal():
        raise RequestError(f"the paper's results are in Tables 4 to 11, got {which!r}")
    frame = mqbench.paper.table(int(which)) if what == "table" else mqbench.paper.figure(which)
    print_frame(frame, as_json=as_json)
    return 0


def _claims(section: str | None, *, as_json: bool) -> int:
    import mqbench.paper

    every = mqbench.paper.recompute()
    found = [f for f in every if section is None or f.section.startswith(section)]
    if not found:
        raise UnknownNameError("section", section, {f.section for f in every})
    if as_json:
        print_json([asdict(finding) for finding in found])
        return 0
    table = Table("", "Claim", "Recomputed", "Verdict", box=None, padding=(0, 2, 1, 0), pad_edge=False)
    for finding in found:
        claim: list[Any] = [Text(finding.claim)]
        claim += [Text(finding.note, style="dim")] if finding.note else []
        verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
        table.add_row(finding.section, Group(*claim), finding.recomputed, verdict)
    console = console_of(sys.stdout)
    console.print(table)
    counts = [f"{sum(f.verdict == v for f in found)} {v}" for v in _STYLES]
    console.print(f"{len(found)} claims: {', '.join(counts)}.", markup=False)
    return 0


COMMAND = paper
