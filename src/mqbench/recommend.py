"""Which algorithm to use on a backend: an answer from records, with its evidence, or that there is too little."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from mqbench import metrics, paper
from mqbench.record import FLOAT, MQBENCH, Record, Setting

Strength = Literal["shown", "likely", "weak", "too little"]
OWN, PAPER = "own records", "the paper's Table 7"
SEEDS = 3  # of a cell, before its mean is worth a test
# Two runs of one setting in the paper (Tables 7 and 11) lie 0.2 and 0.7 apart.
REPEATABILITY = 0.7


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of one algorithm on the backend.

    Args:
        source: own records, or the paper's.
        place: the network and dataset, or how many networks.
        algorithm: its name.
        mean, spread: accuracy in percent with NC as 0, and sample standard deviation over the runs.
        runs, not_converged: how many.
    """

    source: str
    place: str
    algorithm: str
    mean: float
    spread: float | None
    runs: int
    not_converged: int


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """An answer.

    Args:
        algorithms: those to use, the best first; several that are not told apart; none if there is too little.
        strength: ``shown``: paired tests over seeds on this very network; ``likely``: single runs on it, apart
            by more than runs differ; ``weak``: from other networks, or too close; ``too little``.
        reason: one sentence.
        evidence: every number that it rests on, and what else is known of the backend.
    """

    algorithms: tuple[str, ...]
    strength: Strength
    reason: str
    evidence: tuple[Evidence, ...]


def recommend(
    records: Iterable[Record],
    *,
    backend: str,
    architecture: str,
    bits: tuple[int, int] = (4, 4),
    dataset: str | None = None,
) -> Recommendation:
    """Answer from own records and the paper's.

    The nearest evidence speaks: own runs of this network with three seeds or more; else the paper's run of
    it; else own runs with fewer; else other networks on the same backend.

    Args:
        records: own.
        backend, architecture, bits: what it is for.
        dataset: of own records; None takes the one with the most algorithms.
    """
    every = [r for r in records if _fits(r, backend, bits)]
    own = every if dataset is None else [r for r in every if r.setting.dataset == dataset]
    theirs = [r for r in paper.records(7) if _fits(r, backend, bits)]
    here = _largest([r for r in own if r.setting.architecture == architecture])
    printed = [r for r in theirs if r.setting.architecture == architecture]
    evidence = (
        *_of(OWN, here),
        *_of(PAPER, printed),
        *_elsewhere(OWN, [r for r in own if r.setting.architecture != architecture]),
        *_elsewhere(PAPER, [r for r in theirs if r.setting.architecture != architecture]),
    )
    for answer in (
        _tested(here),
        _single(PAPER, printed),
        _single(OWN, here),
        _from_elsewhere([e for e in evidence if "networks" in e.place]),
    ):
        if answer is not None:
            algorithms, strength, reason = answer
            return Recommendation(algorithms=algorithms, strength=strength, reason=reason, evidence=evidence)
    known = sorted({e.algorithm for e in evidence} | {r.setting.algorithm for r in own})
    reason = _too_little(known, f"{backend} at w{bits[0]}a{bits[1]}")
    return Recommendation(algorithms=(), strength="too little", reason=reason, evidence=evidence)


def _too_little(known: Sequence[str], where: str) -> str:
    if not known:
        return f"no record of {where}, neither own nor the paper's; mqbench run makes them"
    if len(known) == 1:
        return f"{known[0]} is the only algorithm with a record on {where}, so there is nothing to compare it with"
    return (
        f"no two of {', '.join(known)} have runs on {where} that differ in the algorithm alone, and converged"
    )


_Answer = tuple[tuple[str, ...], Strength, str]


def _tested(runs: Sequence[Record]) -> _Answer | None:
    values = _values(runs)
    if len(values) < 2 or min(map(len, values.values())) < SEEDS:
        return None
    marks = metrics.indistinguishable(runs)
    order = sorted(values, key=lambda name: -fmean(values[name]))
    if not marks or not fmean(values[order[0]]):
        return None
    tied = tuple(name for name in order if name == order[0] or marks.get(name))
    seeds = min(map(len, values.values()))
    if len(tied) == 1:
        return (
            tied,
            "shown",
            f"best on this network over {seeds} seeds, and different from every other (paired t, Holm)",
        )
    return tied, "weak", f"{', '.join(tied)} are not told apart by {seeds} seeds on this network"


def _single(source: str, runs: Sequence[Record]) -> _Answer | None:
    means = {name: fmean(values) for name, values in _values(runs).items()}
    if len(means) < 2 or not max(means.values()):
        return None
    order = sorted(means, key=lambda name: -means[name])
    near = tuple(name for name in order if means[order[0]] - means[name] <= REPEATABILITY)
    if len(near) == 1:
        lead = means[order[0]] - means[order[1]]
        text = f"{lead:.1f} points before {order[1]} on this network in {source}, from few runs"
        return near, "likely", text
    return (
        near,
        "weak",
        f"{', '.join(near)} lie within {REPEATABILITY} points on this network in {source}: no difference",
    )


def _from_elsewhere(evidence: Sequence[Evidence]) -> _Answer | None:
    for source in (OWN, PAPER):
        means = {e.algorithm: e.mean for e in evidence if e.source == source}
        if len(means) > 1 and max(means.values()):
            best = max(means, key=means.__getitem__)
            return (best,), "weak", f"no record of this network; best mean over other networks in {source}"
    return None


def _fits(record: Record, backend: str, bits: tuple[int, int]) -> bool:
    setting = record.setting
    return (
        setting.algorithm != FLOAT
        and (setting.backend, setting.bits) == (backend, bits)
        and metrics.accuracy(record) is not None
        and setting.tool == MQBENCH  # the question is which algorithm, not whose
        and not setting.overrides  # with a property replaced it is another backend
    )


def _largest(runs: Sequence[Record]) -> list[Record]:
    """Runs that differ in nothing but algorithm and seed: the group with the most algorithms, then runs."""
    groups: dict[Setting, list[Record]] = {}
    for run in runs:
        groups.setdefault(run.setting.model_copy(update={"algorithm": "", "seed": 0}), []).append(run)
    return max(groups.values(), key=lambda g: (len(_values(g)), len(g)), default=[])


def _values(runs: Iterable[Record]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        found.setdefault(run.setting.algorithm, []).append(metrics.accuracy(run) or 0.0)
    return found


def _of(source: str, runs: Sequence[Record], place: str | None = None) -> list[Evidence]:
    found = []
    for algorithm, values in _values(runs).items():
        mine = [run for run in runs if run.setting.algorithm == algorithm]
        found.append(
            Evidence(
                source=source,
                place=place or f"{mine[0].setting.architecture} on {mine[0].setting.dataset}",
                algorithm=algorithm,
                mean=fmean(values),
                spread=stdev(values) if len(values) > 1 else None,
                runs=len(values),
                not_converged=sum(run.outcome == "not_converged" for run in mine),
            )
        )
    return sorted(found, key=lambda e: -e.mean)


def _elsewhere(source: str, runs: Sequence[Record]) -> list[Evidence]:
    """Over the networks that every algorithm of the source has, so that the means compare."""
    algorithms = set(_values(runs))
    places: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        place = (run.setting.architecture, run.setting.dataset)
        places.setdefault(place, set()).add(run.setting.algorithm)
    common = [place for place, names in places.items() if names == algorithms]
    chosen = [r for r in runs if (r.setting.architecture, r.setting.dataset) in common]
    return _of(source, chosen, f"{len(common)} other networks")
