"""A columnar index beside the records, so that a large store loads at once.

The records are the truth: the index holds, for each one, its row of the frame and the stamp that its file had.
A row counts only while that stamp is the file's, so a record that was added, replaced, changed or removed is
seen, and any number of processes may write records and indexes at once. Whoever finds many rows missing
writes the index anew, as a whole. It may be deleted at any time.
"""

import hashlib
import io
from typing import Any

import polars

from mqbench.columns import row, schema
from mqbench.store import Store

STAMP = "_stamp"
WORTHWHILE = 256  # rows that are missing or stale before the index is written again


def name() -> str:
    """Of the file; another set of columns has another one, so versions of this package keep apart."""
    columns = [f"{column} {kind.__name__}" for column, kind in schema().items()]
    return f".index-{hashlib.sha256(' '.join(columns).encode()).hexdigest()[:8]}.parquet"


def load(store: Store) -> polars.DataFrame:
    """The frame of a store, by key; writes the index where that is worthwhile.

    Raises:
        StoreError: the folder or one of its records cannot be read.
    """
    stamps = store.stamps()
    now = polars.DataFrame({"key": list(stamps), STAMP: list(stamps.values())}, schema=_KEYED)
    known = _read(store)
    kept = known.join(now, on=["key", STAMP], how="semi")
    missing = now.join(kept, on="key", how="anti")["key"].to_list()
    frame = polars.concat([kept, _rows(store, missing, stamps)]).sort("key")
    if len(missing) + known.height - kept.height >= WORTHWHILE:
        _write(store, frame)
    return frame.drop(STAMP)


def rebuild(store: Store) -> polars.DataFrame:
    """The frame, from the records alone; the index is written anew."""
    stamps = store.stamps()
    frame = _rows(store, sorted(stamps), stamps)
    _write(store, frame)
    return frame.drop(STAMP)


def differences(store: Store) -> list[str]:
    """Keys whose row in the frame is not what the record says, every record read; none, if all is well."""
    stamps = store.stamps()
    told = load(store)
    truth = _rows(store, sorted(stamps), stamps).drop(STAMP)
    apart = polars.concat([told.join(truth, on=told.columns, how="anti", nulls_equal=True),
                           truth.join(told, on=told.columns, how="anti", nulls_equal=True)])  # fmt: skip
    return sorted(set(apart["key"]))


_KEYED: dict[str, type] = {"key": str, STAMP: str}


def _rows(store: Store, keys: list[str], stamps: dict[str, str]) -> polars.DataFrame:
    rows: list[dict[str, Any]] = []
    for key in keys:
        record = store.get(key)
        if record is not None:
            rows.append({**row(record, key), STAMP: stamps[key]})
    return polars.DataFrame(rows, schema={**schema(), STAMP: str})


def _read(store: Store) -> polars.DataFrame:
    columns = {**schema(), STAMP: str}
    empty = polars.DataFrame(schema=columns)
    content = store.read_cache(name())
    if content is None:
        return empty
    try:
        frame = polars.read_parquet(io.BytesIO(content))
    except (polars.exceptions.PolarsError, OSError):  # cut short or of another kind: it is made again
        return empty
    return frame if frame.schema == empty.schema else empty


def _write(store: Store, frame: polars.DataFrame) -> None:
    # A record that was being replaced has no stamp to be checked by.
    buffer = io.BytesIO()
    frame.filter(polars.col(STAMP) != "").write_parquet(buffer, compression="zstd")
    store.write_cache(name(), buffer.getvalue())
