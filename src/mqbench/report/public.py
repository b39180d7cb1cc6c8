"""Records as anyone may see them."""

from typing import Any

from mqbench.record import Record


def published(record: Record) -> Record:
    """A record without what names its machine, its folders or its users; of a failure the kind is left.

    >>> from mqbench.record import Setting
    >>> reason = "OSError: cannot read /home/me/data"
    >>> published(Record(setting=Setting(architecture="a", dataset="d"), outcome="failed", reason=reason)).reason
    'OSError'
    """
    changes: dict[str, Any] = {}
    if record.outcome == "failed":  # a message or a traceback may name anything
        changes = {"reason": (record.reason or "").partition(":")[0], "error": None}
    if record.provenance is not None:
        compute = {**record.provenance.compute, "tensorboard": None}
        changes["provenance"] = record.provenance.model_copy(update={"hostname": "", "compute": compute})
    return record.model_copy(update=changes)
