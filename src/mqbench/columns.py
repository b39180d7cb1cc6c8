"""The flat columns of a record in a frame."""

import hashlib
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mqbench.record import Record, Setting

RESULT: dict[str, type] = {
    "outcome": str,
    "accuracy": float,
    "float_accuracy": float,
    "calibrated_accuracy": float,
    "agreement": float,
    "deployable": bool,
    "tool_version": str,
    "nc_kind": str,
    "reason": str,
}


def row(record: Record, key: str | None = None) -> dict[str, Any]:
    """The values of a record, by column; its key is computed unless it is given."""
    setting = record.setting
    fields = {name: getattr(setting, name) for name in Setting.model_fields if name != "bits"}
    fields["weight_bits"], fields["activation_bits"] = setting.bits or (None, None)
    result = {name: getattr(record, name) for name in RESULT}
    seconds = record.provenance.seconds if record.provenance else None
    return {"key": key or setting.key, **fields, **result, "seconds": seconds}


@cache
def version() -> str:
    """A name of this set of columns: eight hexadecimal digits."""
    columns = [f"{column} {kind.__name__}" for column, kind in schema().items()]
    return hashlib.sha256(" ".join(columns).encode()).hexdigest()[:8]


def schema() -> dict[str, type]:
    """Column to Python type: the key, the fields of the setting, the result, the seconds of the run.

    It follows the fields of `Setting`, so a field that is added there is a column here.
    """
    columns: dict[str, type] = {"key": str}
    for name, field in Setting.model_fields.items():
        if name == "bits":
            columns |= {"weight_bits": int, "activation_bits": int}
        else:
            columns[name] = _scalar(name, field.annotation)
    return columns | RESULT | {"seconds": float}


def _scalar(name: str, annotation: Any) -> type:
    kinds = set(_kinds(annotation)) - {type(None)}
    if kinds == {int, float}:
        return float
    if len(kinds) != 1 or not kinds <= {str, int, float, bool}:
        raise TypeError(f"Setting.{name} is not a plain value, so it has no column; give it one here")
    return kinds.pop()


def _kinds(annotation: Any) -> list[type]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    if origin is Literal:
        return [type(value) for value in get_args(annotation)]
    return [annotation]
