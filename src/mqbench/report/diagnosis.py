"""A diagnosis as files: the tables as parquet, everything as JSON, and a page."""

import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mqbench.errors import RequestError
from mqbench.report.advice import advice
from mqbench.report.diagnosis_page import page


def plain(value: Any) -> Any:
    """For JSON: an infinite ratio (nothing differs) is the text ``inf``."""
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def write(folder: str, about: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Write ``diagnosis.json``, ``quantizers.parquet``, ``layers.parquet`` and ``index.html``, all or nothing.

    Raises:
        RequestError: the folder cannot be written.
    """
    import polars

    path = Path(folder)
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        building.mkdir(parents=True)
        everything = {**about, "advice": advice(found), **found}
        (building / "diagnosis.json").write_text(
            json.dumps(plain(everything), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
        (building / "index.html").write_text(page(about, found), encoding="utf-8")
        for name in ("quantizers", "layers"):
            frame = polars.DataFrame(list(found[name]), infer_schema_length=None)
            content = io.BytesIO()  # polars has errors of its own for a disk that is full
            frame.write_parquet(content)
            (building / f"{name}.parquet").write_bytes(content.getvalue())
        with suppress(OSError):
            path.rmdir()  # an empty one
        os.replace(building, path)
    except OSError as error:
        raise RequestError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
