"""A columnar index beside the records, so that a large store loads at once.

The records are the truth: the index holds, for each one, its row of the frame and the stamp that its file had.
A row counts only while that stamp is the file's, so a record that was added, replaced, changed or removed is
seen, and any number of processes may write records and indexes at once. Whoever finds many rows missing
writes the index anew, as a whole. It may be deleted at any time.
Writers of a large store note down the rows of their records (`mqbench.journal`), so even then few are opened.
"""

import io
import json
from typing import Any

import polars

from mqbench.columns import row, schema, version
from mqbench.journal import STAMP, WORTHWHILE
from mqbench.store import Store


def name() -> str:
    """Of the file; another set of columns has another one, so versions of this package keep apart."""
    return f".index-{version()}.parquet"


def load(store: Store) -> polars.DataFrame:
    """The frame of a store, by key; writes the index where that is worthwhile.

    Raises:
        StoreError: the folder or one of its records cannot be read.
    """
    stamps = store.stamps()
    now = polars.DataFrame({"key": list(stamps), STAMP: list(stamps.values())}, schema=_KEYED)
    known = _read(store)
    kept = known.join(now, on=["key", STAMP], how="semi")
    if kept.height < now.height:
        noted = _noted(store).join(now, on=["key", STAMP], how="semi").join(kept, on="key", how="anti")
        kept = polars.concat([kept, noted.unique("key")])
    missing = now.join(kept, on="key", how="anti")["key"].to_list()
    frame = polars.concat([kept, _rows(store, missing, stamps)]).sort("key")
    indexed = known.join(frame, on=["key", STAMP], how="semi").height
    if max(frame.height, known.height) - indexed >= WORTHWHILE:
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


def _noted(store: Store) -> polars.DataFrame:
    empty = polars.DataFrame(schema={**schema(), STAMP: str})
    content = store.notes()
    if not content.strip():
        return empty
    errors = (polars.exceptions.PolarsError, UnicodeDecodeError)
    try:
        frame = polars.read_ndjson(io.BytesIO(content), schema=empty.schema)
    except errors:  # a line was cut short, or mixed with another
        try:
            frame = polars.read_ndjson(io.BytesIO(_whole(content)), schema=empty.schema)
        except errors:
            return empty
    return frame.filter(polars.col("key").is_not_null() & polars.col(STAMP).is_not_null())


def _whole(content: bytes) -> bytes:
    """The lines that are JSON objects."""
    lines = []
    for line in content.splitlines():
        try:
            if isinstance(json.loads(line), dict):
                lines.append(line)
        except ValueError:
            continue
    return b"\n".join(lines)


def _write(store: Store, frame: polars.DataFrame) -> None:
    # A record that was being replaced has no stamp to be checked by.
    buffer = io.BytesIO()
    frame.filter(polars.col(STAMP) != "").write_parquet(buffer, compression="zstd")
    store.write_cache(name(), buffer.getvalue())
    store.drop_notes()
