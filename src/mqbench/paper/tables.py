"""Tables 4 to 11 of the paper as records, each with what is particular to its table."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mqbench.errors import RequestError
from mqbench.paper.transcription import (
    ALGORITHMS,
    ARCHITECTURES,
    BACKENDS,
    DATASET,
    lines,
    number,
)
from mqbench.record import Record, Setting


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of a table.

    Args:
        record: as a run of this package would give it; None for a latency, which is no run.
        more: columns that only this table has.
    """

    record: Record | None
    more: Mapping[str, Any] = field(default_factory=dict)


def rows(table: int) -> list[Row]:
    """The rows of a table, in its order.

    Raises:
        RequestError: the paper has results in Tables 4 to 11 only.
    """
    if table not in _READERS:
        raise RequestError(f"the paper's results are in Tables 4 to 11, got {table!r}")
    return list(_READERS[table]())


def records(table: int = 7) -> list[Record]:
    """The records of a table, for the functions of `mqbench.metrics`. Raises like `rows`."""
    return [row.record for row in rows(table) if row.record is not None]


def _record(
    line: Mapping[str, str],
    accuracy: str,
    *,
    algorithm: str,
    backend: str = "academic",
    float_accuracy: float | None = None,
    calibrated: float | None = None,
    **setting: Any,
) -> Record:
    printed = number(accuracy)
    return Record(
        setting=Setting(
            architecture=ARCHITECTURES[line["model"]],
            dataset=DATASET,
            algorithm=ALGORITHMS.get(algorithm, algorithm),
            backend=backend,
            **setting,
        ),
        outcome="not_converged" if accuracy == "NC" else "ok",
        accuracy=printed,
        float_accuracy=float_accuracy if float_accuracy is not None else _float_accuracies()[line["model"]],
        calibrated_accuracy=calibrated,
        deployable=algorithm not in ("APoT", "QIL"),
    )


def _float_accuracies() -> dict[str, float]:
    return {line["model"]: float(line["fp_top1"]) for line in lines("table7")}


def _academic() -> Iterator[Row]:
    for line in lines("table4"):
        record = _record(line, line["top1_academic_4bit"], algorithm=line["algorithm"])
        yield Row(record=record, more={"reported_accuracy": number(line["top1_reported_in_original_paper"])})


def _folding() -> Iterator[Row]:
    for line in lines("table5"):
        strategy = line["bn_fold_strategy"]
        record = _record(
            line,
            line["top1"],
            algorithm=line["algorithm"],
            bn_folding=int(strategy.rstrip("*")),
            sync_bn=not strategy.endswith("*"),
        )
        yield Row(record=record)


def _graphs() -> Iterator[Row]:
    for line in lines("table6"):
        yield Row(record=_record(line, line["top1"], algorithm=line["algorithm"], graph=int(line["graph"])))


def _hardware() -> Iterator[Row]:
    printed = {(line["model"], line["algorithm"]): line for line in lines("table7")}
    for line in lines("table7_long"):
        row = printed[line["model"], line["algorithm"]]
        record = _record(line, line["top1"], algorithm=line["algorithm"], backend=BACKENDS[line["setting"]])
        yield Row(
            record=record,
            more={
                "printed_gap": number(line["gap_as_printed_unsigned"]),
                "printed_hardware_mean": float(row["avg_hw_printed"]),
                "printed_hardware_std": float(row["std_hw_printed"]),
            },
        )


def _scale_decay() -> Iterator[Row]:
    for line in lines("table8"):
        named = {"model": "MobileNetV2"}
        yield Row(
            record=_record(
                named,
                line["top1_lsq_mobilenetv2_tensorrt"],
                algorithm="LSQ",
                backend="tensorrt",
                quantizer_weight_decay=float(line["scale_weight_decay"]),
            )
        )


def _latency() -> Iterator[Row]:
    for line in lines("table9"):
        yield Row(
            record=None,
            more={
                "architecture": ARCHITECTURES[line["model"]],
                "device": line["device"],
                "precision": line["precision"],
                "images": int(line["batch"]),
                "latency_ms": number(line["latency_ms"]),
                "printed_speedup": number(line["speedup_printed"]),
                "note": {"lost": "illegible", "-": "not measured"}.get(line["latency_ms"]),
            },
        )


def _calibration() -> Iterator[Row]:
    for line in lines("table10"):
        for backend in ("snpe", "fbgemm"):
            record = _record(
                line,
                line[f"{backend}_top1"],
                algorithm="ptq",
                backend=backend,
                bits=int(line["bits"]),
                activation_calibration=line["a_calibration"].lower(),
                weight_calibration=line["w_calibration"].lower(),
            )
            yield Row(record=record, more={"printed_spread": float(line[f"{backend}_pm"])})


def _initialization() -> Iterator[Row]:
    """Three runs a line: calibrated only, with batch-norm calibration on 4096 images, and trained by LSQ."""
    for line in lines("table11"):
        how: dict[str, Any] = {
            "backend": BACKENDS[line["setting"]],
            "activation_calibration": line["a_calibration"].lower(),
            "weight_calibration": line["w_calibration"].lower(),
        }
        ptq = float(line["ptq_top1"])
        yield Row(record=_record(line, line["qat_top1"], algorithm="LSQ", calibrated=ptq, **how))
        yield Row(record=_record(line, line["ptq_top1"], algorithm="ptq", **how))
        yield Row(record=_record(line, line["bn_calib_top1"], algorithm="ptq", bn_calibration=4096, **how))


_READERS: dict[int, Callable[[], Iterator[Row]]] = {
    4: _academic,
    5: _folding,
    6: _graphs,
    7: _hardware,
    8: _scale_decay,
    9: _latency,
    10: _calibration,
    11: _initialization,
}
