"""What the pages and figures of a report are made from."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from mqbench.latency_record import LatencyRecord
from mqbench.record import FLOAT, Record
from mqbench.report import diagnostics
from mqbench.report.diagnostics import Curve, Histogram, Ranges
from mqbench.report.entries import Entry, entries
from mqbench.report.public import published
from mqbench.report.rows import rows
from mqbench.store import Store


class Context:
    """Records and what lies beside them.

    Args:
        store: where the diagnostics of the runs are.
        records: of the report.
        latencies: measured.
        certificates: key of a setting to its certificates.
        stamps: key of a record to a text that changes when it does; a run whose page is known is not drawn again.
        public: the records and the store's place are shown without what names the machine.
    """

    def __init__(
        self,
        store: Store,
        records: Iterable[Record],
        latencies: Sequence[LatencyRecord] = (),
        certificates: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        stamps: Mapping[str, str] | None = None,
        *,
        public: bool = False,
    ) -> None:
        self.store, self.public = store, public
        self.records = [published(record) if public else record for record in records]
        self.latencies = list(latencies)
        self.certificates = dict(certificates or {})
        self.stamps = dict(stamps or {})

    @cached_property
    def quantized(self) -> list[Record]:
        """The records of quantized networks."""
        return [record for record in self.records if record.setting.algorithm != FLOAT]

    @cached_property
    def by_key(self) -> dict[str, Record]:
        """Key to record."""
        return {record.setting.key: record for record in self.records}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Of `mqbench.report.rows`, those of quantized networks."""
        return [row for row in rows(self.records) if row["backends"]]

    @cached_property
    def entries(self) -> list[Entry]:
        """The leaderboard."""
        return entries(self)

    def curve(self, record: Record) -> Curve | None:
        """The training of a run."""
        return diagnostics.curve(self.store, record)

    def ranges(self, record: Record) -> list[Ranges]:
        """Clipping ranges of a run's quantizers."""
        return diagnostics.ranges(self.store, record)

    def histograms(self, record: Record) -> dict[str, Histogram]:
        """Histograms of the inputs of a run's quantizers."""
        return diagnostics.histograms(self.store, record)
