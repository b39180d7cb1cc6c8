"""A store of a few runs with all that a run leaves beside its record."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy
import polars
from safetensors.numpy import save

from mqbench.latency_record import LatencyRecord, LatencySetting, Precision, put_latency
from mqbench.record import CurvePoint, Outcome, Provenance, Record, Setting
from mqbench.store import Store

QUANTIZERS = (
    ("conv1.weight_quantizer", "weight"),
    ("activation_quantizers.conv1_input", "activation"),
    ("activation_quantizers.fc_input", "activation"),
)
PROVENANCE = Provenance(
    started="2026-01-01T00:00:00",
    seconds=12.5,
    hostname="machine-7",
    machine="Linux",
    threads=1,
    python="3.11",
    versions={},
)


def made(accuracy: float = 70.0, *, outcome: Outcome = "ok", **fields: Any) -> Record:
    """A record of a quantized network; ``fields`` are of its setting."""
    given = {
        "architecture": "resnet18",
        "dataset": "imagenet",
        "algorithm": "lsq",
        "backend": "tvm",
        **fields,
    }
    if given["algorithm"] == "float":
        del given["backend"]
    trained = outcome == "ok"
    point = CurvePoint(epoch=1, learning_rate=0.1, train_loss=1, train_accuracy=60, test_accuracy=accuracy)
    return Record(
        setting=Setting(**given),
        outcome=outcome,
        accuracy=accuracy if trained else None,
        float_accuracy=71.0,
        calibrated_accuracy=10.0 if given["algorithm"] != "float" else None,
        nc_kind="exploding scale" if outcome == "not_converged" else None,
        reason=None if trained else "the scale of conv1 is 2e6",
        error="Traceback: <b>boom</b>" if outcome == "failed" else None,
        curve=(point,) if trained else (),
        provenance=PROVENANCE,
    )


def diagnostics(looks: int = 5, high: float = 2.0) -> dict[str, bytes]:
    """The files of a run of so many looks; activations are clipped to ``high``."""
    curve = [
        {
            "step": 10 * (look + 1), "epoch": 1, "learning_rate": 0.1, "train_loss": 1.0,
            "train_accuracy": 50.0 + look, "train_accuracy_ema": 50.0 + look,
            "test_accuracy": 40.0 + look, "test_accuracy_ema": 40.0 + look,
        }
        for look in range(looks)
    ]  # fmt: skip
    ranges = [
        {
            "step": 10 * (look + 1), "epoch": 1, "quantizer": name, "role": role, "bits": 4,
            "scale": 0.1, "scale_min": 0.05, "scale_max": 0.2, "zero_point": 0,
            "clip_min": -1.0 - look, "clip_max": high,
        }
        for look in range(looks)
        for name, role in QUANTIZERS
    ]  # fmt: skip
    tensors = {}
    for name, _ in QUANTIZERS:
        tensors[f"{name}.counts"] = numpy.arange(256, dtype=numpy.int64)
        tensors[f"{name}.range"] = numpy.array([-4.0, 4.0], numpy.float32)
        tensors[f"{name}.clip"] = numpy.array([-1.0, high], numpy.float32)
    return {
        "curve.parquet": _parquet(curve),
        "quantizers.parquet": _parquet(ranges),
        "histograms.safetensors": save(tensors),
    }


def fill(root: Path, records: Iterable[Record], *, beside: bool = True) -> Store:
    """A store with these records."""
    store = Store(root)
    for record in records:
        store.put(record, diagnostics() if beside and record.outcome == "ok" else {})
    return store


def table() -> list[Record]:
    """Two algorithms on three backends with three seeds, their float network, one NC, one that failed."""
    records = [
        made(70.0 - 3 * b - 2 * a + 0.1 * seed, algorithm=algorithm, backend=backend, seed=seed)
        for a, algorithm in enumerate(("lsq", "pact"))
        for b, backend in enumerate(("academic", "tvm", "fbgemm"))
        for seed in range(3)
    ]
    return [
        *records,
        made(71.0, algorithm="float"),
        made(algorithm="dorefa", backend="tvm", outcome="not_converged"),
        made(algorithm="dorefa", backend="fbgemm", outcome="failed"),
    ]


def measure(store: Store, architecture: str = "resnet18", backend: str = "tvm") -> None:
    """Latencies of a network in float and in integers."""
    times: tuple[tuple[Precision, float], ...] = (("float", 9.0), ("int8", 3.0))
    for precision, time in times:
        setting = LatencySetting(
            architecture=architecture,
            runtime="onnxruntime",
            precision=precision,
            backend=backend,
            batch_size=1,
            image_size=224,
            threads=1,
        )
        record = LatencyRecord(
            setting=setting,
            milliseconds=(time, time + 0.5, time),
            cpu_milliseconds=(time, time, time),
            passes=2,
            warmup=2,
            engine_version="1.0",
        )
        put_latency(store, record)


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    polars.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()
