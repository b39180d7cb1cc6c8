"""What the records say, in words; and where they are too few to say it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import fmean, median

from mqbench import metrics
from mqbench.paper import beside, proxies
from mqbench.record import Record
from mqbench.report import footer
from mqbench.report.context import Context
from mqbench.report.entries import Entry
from mqbench.report.families import backend_name, variants

_RESAMPLES = 300
_NAMED = 4
_RANKED = 6  # of the largest groups of runs
_SURE = 80  # % of the draws in which the first is first again


def headlines(context: Context, entries: Sequence[Entry]) -> list[str]:
    """Sentences, the most important first; each holds for the records as they are."""
    found = [*_ranking(context), *_told_apart(entries), *_gaps(entries), *_lost(context.quantized)]
    return [*found, *_speed(context), *_paper(context.quantized)]


def _ranking(context: Context) -> Iterator[str]:
    every = variants(context.quantized)
    several = [(name, runs) for name, runs in every if len({run.setting.algorithm for run in runs}) > 1]
    if every and not several:
        yield "No two algorithms ran with all else equal, so there is nothing to compare."
    lacking: dict[str, list[str]] = {}
    for name, runs in several[:_RANKED]:
        comparable, left_out = _comparable(runs)
        stability = metrics.rank_stability(comparable, resamples=_RESAMPLES)
        if stability is None:
            lacking.setdefault(_too_little(runs), []).append(name)
            continue
        but = f" {', '.join(left_out)} ran in fewer cells." if left_out else ""
        first, second = stability.ranking[0], stability.ranking[1]
        again = 100 * stability.first_again
        luck = "" if again >= _SURE else ", so which of them is first is luck"
        yield (
            f"{name}: by the mean of {_count(stability.cells, 'common cell')} {first} is first, before {second}. Drawn "
            f"again from the {stability.seeds} seeds, it is first in {again:.0f} % of the draws{luck}. "
            f"The order is {', '.join(stability.ranking)}.{but} {stability.caution}".rstrip()
        )
    for why, names in lacking.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"{'; '.join(names[:_NAMED])}{more}: {why}"


def _comparable(runs: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """The runs of the algorithms that have two seeds in most cells, in these cells; and the other algorithms."""
    cells: dict[object, dict[str, list[Record]]] = {}
    for run in runs:
        if metrics.accuracy(run) is not None:
            place = run.setting.model_copy(update={"algorithm": "", "seed": 0})
            cells.setdefault(place, {}).setdefault(run.setting.algorithm, []).append(run)
    covered = Counter(name for cell in cells.values() for name, own in cell.items() if len(own) > 1)
    most = max(covered.values(), default=0)
    names = {name for name, count in covered.items() if count == most}
    found = [
        run
        for cell in cells.values()
        for name, own in cell.items()
        if name in names and len(own) > 1
        for run in own
    ]
    return found, sorted({run.setting.algorithm for run in runs} - names)


def _too_little(runs: Sequence[Record]) -> str:
    """Why algorithms cannot be ranked."""
    cells: dict[object, set[str]] = {}
    seeds: Counter[tuple[object, str]] = Counter()
    for run in runs:
        place = run.setting.model_copy(update={"algorithm": "", "seed": 0})
        cells.setdefault(place, set()).add(run.setting.algorithm)
        seeds[place, run.setting.algorithm] += 1
    every = {run.setting.algorithm for run in runs}
    if not any(names == every for names in cells.values()):
        return f"no cell has all {len(every)} algorithms, so they cannot be ranked."
    fewest = min(seeds.values())
    return (
        f"{_count(fewest, 'seed')} a cell is too little to say which algorithm is first: it takes two to see how far "
        "runs differ, and three or more to tell algorithms apart (mqbench run --seeds 0,1,2)."
    )


def _told_apart(entries: Sequence[Entry]) -> Iterator[str]:
    columns: dict[tuple[object, ...], list[Entry]] = {}
    for e in entries:
        if e.backend is not None:
            columns.setdefault((e.architecture, e.dataset, e.backend, e.bits, e.other), []).append(e)
    tested = {c: es for c, es in columns.items() if any(e.tied is not None for e in es)}
    if not tested:
        return
    alone = sum(not any(e.tied and not e.best for e in es) for es in tested.values())
    tied = len(tested) - alone
    yield (
        f"In {tied} of {_count(len(tested), 'column')} (one network, backend and bit width) the best algorithm is not "
        f"told apart from at least one other by paired tests over the seeds; in {alone} it is."
    )


def _gaps(entries: Sequence[Entry]) -> Iterator[str]:
    gaps: dict[str, list[float]] = {}
    for e in entries:
        if e.gap is not None and e.backend is not None and not e.is_nc:
            gaps.setdefault(e.backend, []).append(e.gap)
    if len(gaps) < 2:
        if any(e.backend for e in entries):
            yield "There are too few backends beside the academic setting to compare hardware gaps."
        return
    means = {name: fmean(values) for name, values in gaps.items()}
    order = sorted(means, key=means.__getitem__)
    said = [f"{backend_name(b)} {means[b]:+.1f}" for b in order]
    worst = max((e for e in entries if e.gap is not None and not e.is_nc), key=lambda e: e.gap or 0.0)
    yield (
        f"Hardware gap, mean over what converged, in points lost against academic: {', '.join(said)}. The largest "
        f"of one cell is {worst.gap:.1f}: {worst.algorithm} on {backend_name(worst.backend)}, "
        f"{worst.architecture}, {worst.bits}."
    )


def _lost(records: Sequence[Record]) -> Iterator[str]:
    nc = [r for r in records if r.outcome == "not_converged"]
    failed = [r for r in records if r.outcome == "failed"]
    if nc:
        where = Counter((r.setting.algorithm, backend_name(r.setting.backend)) for r in nc)
        kinds = Counter(r.nc_kind or "unknown" for r in nc)
        named = ", ".join(f"{a} on {b} ({n})" for (a, b), n in where.most_common(_NAMED))
        more = " and others" if len(where) > _NAMED else ""
        why = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
        yield f"{len(nc)} of {_count(len(records), 'run')} did not converge: {named}{more}. Kinds: {why}."
    elif records:
        yield f"All of {_count(len(records), 'quantized run')} that finished converged."
    if failed:
        yield (
            f"{_count(len(failed), 'run')} failed and {'counts' if len(failed) == 1 else 'count'} as missing; the "
            f"first: {failed[0].setting}: {failed[0].reason}."
        )


def _speed(context: Context) -> Iterator[str]:
    pairs: dict[object, dict[str, float]] = {}
    for record in context.latencies:
        place = tuple(v for n, v in record.setting.model_dump().items() if n != "precision")
        pairs.setdefault(place, {})[record.setting.precision] = record.median
    ratios = [p["float"] / p["int8"] for p in pairs.values() if len(p) == 2]
    if ratios:
        yield (
            f"INT8 is {median(ratios):.2f} times as fast as float in the median of "
            f"{_count(len(ratios), 'measured pair')} (from {min(ratios):.2f} to {max(ratios):.2f})."
        )


def _paper(records: Sequence[Record]) -> Iterator[str]:
    shared = beside(records)
    if shared:
        largest = max(shared, key=lambda c: abs(c.difference))
        unlike = dict.fromkeys(name.replace("_", " ") for c in shared for name in c.unlike)
        but = f" The training is not the paper's: it differs in {', '.join(unlike)}." if unlike else ""
        yield (
            f"{_count(len(shared), 'cell')} of the paper's tables {'is' if len(shared) == 1 else 'are'} here, "
            f"{fmean(c.difference for c in shared):+.1f} points from what it printed in the mean, "
            f"{largest.difference:+.1f} at most.{but}"
        )
    elif records:
        yield "No cell of the paper's tables is here, so there is nothing to put beside its numbers one to one."
    for proxy in proxies(records):
        yield footer.proxy_line(proxy)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
