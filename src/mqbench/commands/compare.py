"""Compare the algorithms of a study: wins, robustness, paired tests, rank stability."""

import sys
from dataclasses import asdict
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from mqbench import catalog, metrics
from mqbench.arguments import Axes
from mqbench.commands._options import NO_AXES, Files, Json
from mqbench.commands._print import console_of, print_json
from mqbench.commands._size import check_size
from mqbench.errors import RequestError
from mqbench.metrics import Comparison
from mqbench.record import Record
from mqbench.store import Store
from mqbench.sweep import check_names, plan


def compare(
    study: str | None = None,
    /,
    *,
    axes: Axes = NO_AXES,
    over: Literal["cells", "seeds"] = "cells",
    paper: Literal["4", "7"] | None = None,
    store: str = "runs",
    load: Files = (),
    as_json: Json = False,
) -> int:
    """Compare the algorithms of a study from its records: wins, means, paired tests, rank stability.

    The options from --architecture to --float-batch are the axes of a study:
    several values, separated by commas, in place of its own. Without a study
    they make one; of a single option not given, its default counts.

    Args:
        study: A study that ships, or a TOML file; without it and without axes, the default study.
        axes: In place of the study's.
        over: What is paired: the means of cells (would it hold on others?), or single runs by their seed.
        paper: A table of the paper instead of a study.
        store: Folder or URL of the records.
        load: Python files that add algorithms, observers and so on.
        as_json: Print JSON.

    Examples:
        mqbench compare
        mqbench compare --algorithm lsq,pact --backend academic,tvm --bits 4 --seeds 0,1 --over seeds
        mqbench compare --paper 7
    """
    for path in load:
        catalog.load(path)
    records = _paper(int(paper)) if paper else _found(axes, study, store)
    if len({record.setting.contestant for record in records} - {"float"}) < 2:
        raise RequestError("there are records of fewer than two algorithms, so there is nothing to compare")
    comparisons = metrics.compare(records, over)
    stability = metrics.rank_stability(records)
    wins, gaps = metrics.accuracy_wins(records), metrics.gap_wins(records)
    spread = metrics.spread_across_algorithms(records)
    by_backend = metrics.architecture_means(records)
    if as_json:
        print_json(
            {
                "accuracy_wins": wins,
                "gap_wins": gaps,
                "architecture_means": _listed(by_backend, "backend", "algorithm"),
                "hardware_means": _listed(metrics.hardware_means(records), "architecture", "algorithm"),
                "spread_across_algorithms": _listed(spread, "architecture", "backend"),
                "comparisons": [{**asdict(c), "indistinguishable": c.indistinguishable} for c in comparisons],
                "rank_stability": None if stability is None else asdict(stability),
            }
        )
        return 0
    console = console_of(sys.stdout)
    _show_means(console, by_backend, wins, gaps)
    _show_tests(console, comparisons, over)
    if stability is not None:
        ranks = "; ".join(f"{n} {low:g} to {high:g}" for n, (low, high) in stability.ranks.items())
        console.print(
            f"\nRanking {', '.join(stability.ranking)}; drawn again from {stability.seeds} seeds, Kendall's tau "
            f"{stability.tau:.2f}, the first again in {100 * stability.first_again:.0f} %; ranks (95 %): {ranks}. "
            f"{stability.caution}".rstrip(),
            markup=False, soft_wrap=True,
        )  # fmt: skip
    return 0


def _found(axes: Axes, study: str | None, store: str) -> list[Record]:
    asked = axes.study(study)
    check_names(asked.settings().examples())
    check_size(asked, "a comparison")
    runs = plan(asked.settings())
    check_names(runs)
    place = Store(store)
    place.check_readable()
    return [record for setting in runs if (record := place.get(setting)) is not None]


def _paper(table: int) -> list[Record]:
    from mqbench.paper import records

    return records(table)


def _listed(values: dict[tuple[str, str], float], first: str, second: str) -> list[dict[str, Any]]:
    return [{first: a, second: b, "value": value} for (a, b), value in values.items()]


def _show_means(
    console: Console, means: dict[tuple[str, str], float], wins: dict[str, float], gaps: dict[str, float]
) -> None:
    backends = dict.fromkeys(backend for backend, _ in means)
    table = _table("Algorithm", "Best", "Least gap", *backends)
    for algorithm in dict.fromkeys(name for _, name in means):
        shares = (f"{100 * share[algorithm]:.0f} %" if algorithm in share else "-" for share in (wins, gaps))
        values = (means.get((backend, algorithm)) for backend in backends)
        table.add_row(algorithm, *shares, *("-" if v is None else f"{v:.1f}" for v in values))
    console.print(table)
    console.print(
        "Best, Least gap: share of the hardware settings, ties split. Then means over architectures."
    )


def _show_tests(console: Console, comparisons: list[Comparison], over: str) -> None:
    table = _table("Pair", "Difference", "95 %", "p", "p (Holm)", over.capitalize(), "")
    for c in comparisons:
        known = c.p is not None and c.adjusted is not None and c.low is not None and c.high is not None
        interval = f"{c.low:+.2f} to {c.high:+.2f}" if known else "-"
        numbers = (f"{c.p:.3f}", f"{c.adjusted:.3f}") if known else ("-", "-")
        word = {True: "indistinguishable", False: "different", None: "too few"}[c.indistinguishable]
        row = (f"{c.first} - {c.second}", f"{c.difference:+.2f}", interval, *numbers, str(c.blocks), word)
        table.add_row(*row)
    console.print("")
    console.print(table)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False)


COMMAND = compare
