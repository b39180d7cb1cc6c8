"""Records of several stores in one, unless they contradict each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from mqbench.compare import beyond, differences
from mqbench.errors import RequestError
from mqbench.latency_record import FOLDER, latency_records, put_latency
from mqbench.record import Record
from mqbench.store import Store

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What a merge did: settings written, settings that were there, and how many agree in several stores."""

    written: int
    kept: int
    agreeing: int


class ContradictionError(RequestError):
    """Two finished records of one setting with different results."""


def merge(sources: Sequence[Store], target: Store, *, tolerance: float = 0.0) -> Merged:
    """Put every record of the sources into the target, with its files, and every latency that it lacks.

    A finished record goes before a failed one. Of several finished ones that agree, the target's stays, or
    the first source's is taken. Nothing is written unless all of them agree and can be read.

    Args:
        sources: where records come from; they are not changed.
        target: where they go; it may have records.
        tolerance: points of accuracy by which two records of one setting may differ: 0 for runs of one
            machine, which are equal to the bit; more for those of different ones.

    Raises:
        ContradictionError: finished records of one setting differ by more; the settings are named.
        RequestError: there is nothing to merge.
        StoreError: a store cannot be read or written.
    """
    for source in sources:
        source.check_readable()
    if not any(source.stamps() or source.documents(FOLDER) for source in sources):
        raise RequestError(f"there are no records in {', '.join(str(source.root) for source in sources)}")
    before = {record.setting.key: record for record in target} if target.exists() else {}
    chosen: dict[str, tuple[Record, Store]] = {key: (record, target) for key, record in before.items()}
    contradictions, agreeing = [], set()
    for source in sources:
        for record in source:
            key = record.setting.key
            if key not in chosen or _better(record, chosen[key][0]):
                chosen[key] = (record, source)
                continue
            known, place = chosen[key]
            if "failed" in (record.outcome, known.outcome):
                continue
            apart = beyond(differences(known, record), tolerance)
            if apart:
                contradictions.append(
                    f"{record.setting} ({key}): {apart[0]} in {place.root} and {source.root}"
                )
            else:
                agreeing.add(key)
    if contradictions:
        more = f"; and {len(contradictions) - _SHOWN} more" if len(contradictions) > _SHOWN else ""
        raise ContradictionError(
            f"{len(contradictions)} settings have results that differ by more than {tolerance:g} points, so nothing "
            f"was merged (--tolerance allows more): {'; '.join(contradictions[:_SHOWN])}{more}"
        )
    measured = {latency.setting for latency in latency_records(target)}
    latencies = [latency for source in sources for latency in latency_records(source)]
    new = [(record, place) for record, place in chosen.values() if place is not target]
    for record, place in new:
        target.put(record, place.attachments(record.setting), replace=True)
    for latency in latencies:
        if latency.setting not in measured:
            put_latency(target, latency)
            measured.add(latency.setting)
    return Merged(written=len(new), kept=len(chosen) - len(new), agreeing=len(agreeing))


def _better(record: Record, than: Record) -> bool:
    return than.outcome == "failed" and record.outcome != "failed"
