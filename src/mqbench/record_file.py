"""How a record lies in its directory: canonical JSON, provenance apart, files beside it."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mqbench.errors import StoreError
from mqbench.record import SCHEMA_VERSION, Record

RECORD, PROVENANCE, FILES = "record.json", "provenance.json", "files"


def plain(record: Record) -> dict[str, Any]:
    """The record as JSON values without its provenance; floats that are not finite become strings."""
    fields: dict[str, Any] = _finite(record.model_dump(mode="json", exclude={"provenance"}))
    return fields


def text(record: Record) -> str:
    """The canonical JSON of a record: equal for equal records, byte for byte."""
    return _json(plain(record))


def read(folder: Path) -> Record:
    """The record of a directory.

    Raises:
        FileNotFoundError: there is no ``record.json``.
        StoreError: it cannot be read, is damaged, or was written by a newer version of this package.
    """
    try:
        content = (folder / RECORD).read_bytes()
        provenance = (folder / PROVENANCE).read_bytes() if (folder / PROVENANCE).exists() else None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"cannot read {folder / RECORD}: {error.strerror}") from error
    return decode(content, provenance, str(folder))


def decode(content: bytes, provenance: bytes | None, place: str) -> Record:
    """A record from what lies in ``place``, whose name ends in its key.

    Raises:
        StoreError: it is damaged, in the wrong place, or was written by a newer version of this package.
    """
    try:
        fields = json.loads(content)
        version = int(fields["schema_version"])
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{place} was written by a newer mqbench (schema {version}, this one reads up to "
                f"{SCHEMA_VERSION}); upgrade mqbench or use another store"
            )
        fields.pop(FILES, None)
        if provenance is not None:
            fields["provenance"] = json.loads(provenance)
        record = Record.model_validate(fields)
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(f"damaged record {place} ({_cause(error)}); remove it and run again") from error
    if not place.endswith(key := record.setting.key):
        raise StoreError(f"damaged record {place} (its setting has key {key}); remove it")
    return record


def names(content: bytes, place: str) -> dict[str, str]:
    """Under which names the files of a record lie, as `encode` wrote them.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return dict(json.loads(content).get(FILES, {}))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StoreError(f"damaged record {place} ({error}); remove it and run again") from error


def encode(record: Record, files: Mapping[str, str]) -> bytes:
    """A record, its provenance and the names under which its files lie, in one text."""
    fields = {**record.model_dump(mode="json"), FILES: dict(files)}
    return _json(_finite(fields)).encode()


def check_names(names: Iterable[str]) -> None:
    """Raise ``ValueError`` unless files of these names can lie beside a record."""
    for name in names:
        if not name or name in (RECORD, PROVENANCE) or Path(name).name != name:
            raise ValueError(f"a record cannot hold a file named {name!r}; use a plain name of your own")


def attached(folder: Path) -> list[Path]:
    """The files beside a record, by name."""
    return sorted(path for path in folder.iterdir() if path.name not in (RECORD, PROVENANCE))


def write(folder: Path, record: Record, files: Mapping[str, bytes]) -> None:
    """Create ``folder`` with the record and its files, all on disk when this returns."""
    contents = {RECORD: text(record).encode()}
    if record.provenance is not None:
        contents[PROVENANCE] = _json(_finite(record.provenance.model_dump(mode="json"))).encode()
    check_names(files)
    folder.mkdir()
    for name, content in {**contents, **files}.items():
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync(folder)


def sync(folder: Path) -> None:
    """Wait until the entries of a directory are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    # JSON has no NaN, and the loss of a run that did not converge is one; Record reads these strings back.
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _cause(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"no {error}" if isinstance(error, KeyError) else str(error)
