"""A latency measurement as a value, and where it lies in a store (paper section 4.4 and Table 9)."""

import hashlib
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mqbench.errors import StoreError
from mqbench.record import Provenance
from mqbench.store import Store

LATENCY_SCHEMA = 1
FOLDER = "latency"
Precision = Literal["float", "int8"]
Count = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LatencySetting(_Value):
    """What is timed: one network on one engine at one precision and batch.

    Args:
        architecture: name of the network.
        runtime: name of the engine.
        precision: ``float`` is the engine's float32 on the same network, ``int8`` the quantized network.
        backend: whose setting the quantized network has; the float network of a pair carries it too, as
            the two were timed turn by turn.
        batch_size, image_size: of the input.
        threads: CPU threads that the engine may use.
    """

    architecture: str
    runtime: str
    precision: Precision
    backend: str
    batch_size: Count
    image_size: Count
    threads: Count

    @property
    def key(self) -> str:
        """16 hexadecimal digits of a hash of the fields."""
        text = json.dumps([LATENCY_SCHEMA, self.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class LatencyRecord(_Value):
    """Five or more runs of one `LatencySetting`.

    ``milliseconds`` has one entry a run: the median over ``passes`` forward passes of a whole batch, after
    ``warmup`` passes that do not count; ``cpu_milliseconds`` likewise is the CPU time of all threads, which other
    processes on the machine hardly touch. ``integer_nodes`` of ``layers`` convolutions and matrix products ran
    in integers by the engine's own account (None where it was not asked).
    """

    schema_version: int = LATENCY_SCHEMA
    setting: LatencySetting
    milliseconds: Annotated[tuple[Milliseconds, ...], Field(min_length=1)]
    cpu_milliseconds: Annotated[tuple[Milliseconds, ...], Field(min_length=1)]
    passes: Count
    warmup: Annotated[int, Field(ge=0)]
    engine_version: str
    integer_nodes: int | None = None
    layers: int | None = None
    provenance: Provenance | None = None

    @property
    def median(self) -> float:
        """Median over the runs, in milliseconds for the whole batch."""
        return statistics.median(self.milliseconds)

    @property
    def cpu_median(self) -> float:
        """Median CPU time over the runs, in milliseconds for the whole batch."""
        return statistics.median(self.cpu_milliseconds)

    @property
    def spread(self) -> float:
        """Slowest minus fastest run, in milliseconds."""
        return max(self.milliseconds) - min(self.milliseconds)


def put_latency(store: Store, record: LatencyRecord) -> Path:
    """Write a measurement to ``latency/<key>.json`` of a store; an older one of the same setting gives way.

    Raises:
        StoreError: the store cannot be written.
    """
    name = f"{record.setting.key}.json"
    store.write_document(FOLDER, name, f"{record.model_dump_json(indent=1)}\n".encode())
    return store.root / FOLDER / name


def latency_records(store: Store) -> Iterator[LatencyRecord]:
    """Every measurement of a store, by key.

    Raises:
        StoreError: one cannot be read, is damaged, or is of a newer version of this package.
    """
    for name, content in store.documents(FOLDER).items():
        path = store.root / FOLDER / name
        try:
            fields = json.loads(content)
            version = fields.get("schema_version", 0)
            if isinstance(version, int) and version > LATENCY_SCHEMA:
                raise StoreError(
                    f"{path} was written by a newer mqbench; upgrade mqbench or use another store"
                )
            record = LatencyRecord.model_validate(fields)
        except (ValueError, AttributeError, RecursionError) as error:
            raise StoreError(f"damaged measurement {path}; remove it and measure again") from error
        yield record
