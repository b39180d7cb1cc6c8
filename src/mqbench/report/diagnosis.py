"""A diagnosis as files: the tables as parquet, everything as JSON, and a page."""

import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mqbench.errors import RequestError
from mqbench.report.advice import advice

COLUMNS: dict[str, tuple[str, ...]] = {
    "layer": ("layer",),
    "bits": ("weight_bits", "input_bits"),
    "weight SQNR, dB": ("weight_sqnr_db",),
    "input": ("input_sqnr_db",),
    "output": ("output_sqnr_db",),
    "only it: SQNR, dB": ("only_sqnr_db",),
    "agreement, %": ("only_agreement",),
    "top-1, %": ("only_accuracy",),
    "all but it: SQNR, dB": ("without_sqnr_db",),
    "agreement, % ": ("without_agreement",),
    "top-1, % ": ("without_accuracy",),
}
"""Title to fields of the table of layers."""


def cell(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """The text of a cell; of several fields with a slash between them."""
    return "/".join(_text(row[name]) for name in names)


def summary(found: Mapping[str, Any]) -> str:
    """What the whole network loses, in a sentence."""
    whole = found["whole"]
    parts = []
    if whole["accuracy"] is not None:
        parts.append(f"top-1 {whole['accuracy']:.1f} %, float {whole['float_accuracy']:.1f} %")
    if whole["agreement"] is not None:
        parts.append(f"agreement with the float network {whole['agreement']:.1f} %")
    if whole["sqnr_db"] is not None:
        parts.append(f"SQNR of the output {_text(whole['sqnr_db'])} dB")
    said = "; ".join(parts) or "the output is zero"
    sensitive = found["sensitivity_images"]
    return f"{found['images']} images: {said}." + (
        f" Sensitivities are of {sensitive} images." if sensitive else ""
    )


def plain(value: Any) -> Any:
    """For JSON: an infinite ratio (nothing differs) is the text ``inf``."""
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def check_folder(folder: str) -> None:
    """Refuse a folder that holds something already.

    Raises:
        RequestError: it does.
    """
    path = Path(folder)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise RequestError(f"{folder} exists already and is not empty; give another folder")


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
        for name in ("quantizers", "layers"):
            frame = polars.DataFrame(list(found[name]), infer_schema_length=None)
            frame.write_parquet(building / f"{name}.parquet")
        with suppress(OSError):
            path.rmdir()  # an empty one
        os.replace(building, path)
    except OSError as error:
        raise RequestError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "exact" if math.isinf(value) else f"{value:.1f}"
    return str(value)
