"""Run the setting of a record again and compare."""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mqbench.compare import Difference, beyond, differences
from mqbench.compute import Compute
from mqbench.errors import RequestError
from mqbench.record import FLOAT, Provenance, Record, Setting
from mqbench.store import Store

Run = Callable[..., Record]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A record, the same run made again, and what differs.

    Args:
        record, again: the two records.
        tolerance: points of accuracy that are allowed.
        found: every field that differs at all.
        surroundings: what differs in machine, threads, versions, data: name to (then, now).
    """

    record: Record
    again: Record
    tolerance: float
    found: list[Difference] = field(default_factory=list)
    surroundings: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def reproduced(self) -> bool:
        """Nothing differs by more than the tolerance."""
        return not beyond(self.found, self.tolerance)


def find(which: str, store: Store) -> tuple[Record, Store]:
    """A record by its key, by the beginning of its key, or by the path of its folder or file; and its store.

    Raises:
        RequestError: there is none, or there are several.
    """
    path = Path(which)
    if path.name == "record.json":
        path = path.parent
    if len(path.parts) > 1 or path.is_dir():
        store, which = Store(path.parent), path.name
    store.check_readable()
    if not re.fullmatch("[0-9a-f]{1,16}", which):
        raise RequestError(
            f"{which!r} is not the key of a record: up to 16 hexadecimal digits; see mqbench records"
        )
    keys = [key for key in store.stamps() if key.startswith(which)]
    if len(keys) != 1:
        said = "no record" if not keys else f"{len(keys)} records, {', '.join(sorted(keys)[:3])}, ..."
        raise RequestError(f"there is {said} {which!r} in {store.root}; see mqbench records")
    record = store.get(keys[0])
    assert record is not None
    return record, store


def reproduce(
    record: Record,
    run: Run,
    *,
    store: Store | None = None,
    tolerance: float = 0.0,
    data: str | None = None,
) -> Reproduction:
    """Run a record's setting again in a store of its own, and compare.

    Args:
        record: that finished; a failed one has no result.
        run: `mqbench.run`.
        store: where its float network is taken from; None trains that again too.
        tolerance: points of accuracy that are allowed: 0 for the same machine and versions.
        data: folder of the datasets.

    Raises:
        RequestError: the record failed, or its setting cannot run here.
    """
    if record.outcome == "failed":
        raise RequestError(f"{record.setting} failed ({record.reason}), so there is no result to reproduce")
    with tempfile.TemporaryDirectory(prefix="mqbench-") as folder:
        fresh = Store(Path(folder) / "runs")
        if store is not None and record.setting.algorithm != FLOAT:
            _copy(record.setting.float_setting, store, fresh)
        again = run(record.setting, store=fresh, data=data, compute=compute_of(record.provenance))
    return Reproduction(
        record=record,
        again=again,
        tolerance=tolerance,
        found=differences(record, again),
        surroundings=_surroundings(record.provenance, again.provenance),
    )


def compute_of(provenance: Provenance | None) -> Compute:
    """The compute that a record says it was made with, as far as it says so."""
    if provenance is None:
        return Compute()
    known = set(Compute.__dataclass_fields__)
    given = {name: value for name, value in provenance.compute.items() if name in known}
    return Compute(**{"threads": provenance.threads, **given})  # type: ignore[arg-type]


def _copy(setting: Setting, source: Store, target: Store) -> None:
    known = source.get(setting)
    if known is not None and known.outcome != "failed":
        target.put(known, source.attachments(setting))


def _surroundings(then: Provenance | None, now: Provenance | None) -> dict[str, tuple[str, str]]:
    if then is None or now is None:
        return {}
    found = {}
    for name in ("hostname", "machine", "device", "threads", "python", "git_revision", "data", "weights"):
        found[name] = (str(getattr(then, name)), str(getattr(now, name)))
    for package in {**then.versions, **now.versions}:
        found[package] = (then.versions.get(package, "none"), now.versions.get(package, "none"))
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}
