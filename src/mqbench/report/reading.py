"""The records of a store, read again only where they have changed."""

from collections.abc import Sequence
from pathlib import Path

from mqbench.errors import RequestError
from mqbench.latency_record import FOLDER, LatencyRecord, latency_records
from mqbench.record import Record
from mqbench.report.certificates import certificates
from mqbench.report.context import Context
from mqbench.store import Store


class Reader:
    """Reads a store, any number of times.

    Args:
        store: with the records.
        where: a condition on the columns of `mqbench.records`; None takes all.
        artifacts: folders from ``mqbench quantize``, whose certificates belong to the report.
        public: give a context that may be published.
    """

    def __init__(
        self,
        store: Store,
        where: str | None = None,
        artifacts: Sequence[str] = (),
        *,
        public: bool = False,
    ) -> None:
        self.store, self.where, self.artifacts, self.public = store, where, artifacts, public
        self._known: dict[str, tuple[str, Record]] = {}

    def stamp(self) -> object:
        """Another value whenever a record or a measurement has come, gone or changed; opens none.

        Raises:
            StoreError: the store cannot be read.
        """
        return self.store.stamps(), [(path.name, path.stat().st_mtime_ns) for path in self._measured()]

    def read(self) -> Context:
        """What there is now.

        Raises:
            StoreError: the store or a record cannot be read.
            RequestError: there is nothing, or nothing of which the condition holds.
        """
        self.store.check_readable()
        stamps = self.store.stamps()
        found: dict[str, tuple[str, Record]] = {}
        for key in sorted(self._asked(stamps)):
            stamp, known = stamps[key], self._known.get(key)
            if known is not None and known[0] == stamp != "":
                found[key] = known
            elif (record := self.store.get(key)) is not None:
                found[key] = stamp, record
        self._known = found
        latencies = self._latencies()
        if not found and not latencies:
            asked = f" for which {self.where!r} holds" if self.where else ""
            raise RequestError(f"there are no records in {self.store.root}{asked}; mqbench run makes them")
        return Context(
            self.store,
            [record for _, record in found.values()],
            latencies,
            certificates(self.artifacts),
            {key: stamp for key, (stamp, _) in found.items()},
            public=self.public,
        )

    def _asked(self, stamps: dict[str, str]) -> set[str]:
        if self.where is None:
            return set(stamps)
        from mqbench import index, query

        return set(query.where(index.load(self.store), self.where)["key"]) & set(stamps)

    def _latencies(self) -> list[LatencyRecord]:
        return list(latency_records(self.store)) if self._measured() else []

    def _measured(self) -> list[Path]:
        # measurements are kept in folders only
        return sorted((self.store.root / FOLDER).glob("*.json")) if isinstance(self.store.root, Path) else []
