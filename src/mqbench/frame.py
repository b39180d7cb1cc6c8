"""The records of a store as a polars frame."""

import os
from typing import TYPE_CHECKING, Any

from mqbench.record import Record, Setting
from mqbench.store import Store

if TYPE_CHECKING:
    import polars

_WHOLE = {
    "bn_folding", "graph", "first_last_bits", "calibration_images", "bn_calibration", "epochs", "steps", "batch_size",
    "global_batch", "seed", "float_seed", "float_epochs",
}  # fmt: skip
_REAL = {"learning_rate", "weight_decay", "quantizer_weight_decay"}
_TRUE = {"sync_bn"}
_RESULT: dict[str, type] = {
    "outcome": str,
    "accuracy": float,
    "float_accuracy": float,
    "calibrated_accuracy": float,
    "agreement": float,
    "deployable": bool,
    "nc_kind": str,
    "reason": str,
}


def records(store: Store | str | os.PathLike[str] = "runs") -> "polars.DataFrame":
    """One row per record, one flat column per field of its setting.

    Accuracies are top-1 in percent; ``seconds`` is the wall time of the run.

    Raises:
        StoreError: the folder or one of its records cannot be read.

    >>> import tempfile
    >>> records(tempfile.mkdtemp()).height
    0
    """
    import polars  # not at the top: it takes longer to import than a table takes to print

    store = store if isinstance(store, Store) else Store(store)
    return polars.DataFrame([_row(record) for record in store], schema=_schema())


def _row(record: Record) -> dict[str, Any]:
    fields = record.setting.model_dump()
    fields["weight_bits"], fields["activation_bits"] = fields.pop("bits") or (None, None)
    result = record.model_dump(include=set(_RESULT))
    seconds = record.provenance.seconds if record.provenance else None
    return {"key": record.setting.key, **fields, **result, "seconds": seconds}


def _schema() -> dict[str, type]:
    columns: dict[str, type] = {"key": str}
    for name in Setting.model_fields:
        if name == "bits":
            columns |= {"weight_bits": int, "activation_bits": int}
        else:
            columns[name] = _type(name)
    return columns | _RESULT | {"seconds": float}


def _type(name: str) -> type:
    kinds = ((_WHOLE, int), (_REAL, float), (_TRUE, bool))
    return next((kind for names, kind in kinds if name in names), str)
