"""Time and memory to load a large store: python benchmarks/store.py [records [folder]]."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mqbench import journal, record_file
from mqbench.record import CurvePoint, Provenance, Record, Setting

PROVENANCE = Provenance(
    started="2026-01-01T00:00:00", seconds=1.5, hostname="h", machine="m", threads=1, python="3", versions={}
)


def fill(root: Path, count: int) -> None:
    """Records as a store leaves them, without waiting for the disk."""
    root.mkdir()
    setting = Setting(architecture="resnet18", dataset="imagenet", algorithm="lsq", backend="tvm")
    curve = tuple(
        CurvePoint(epoch=e, learning_rate=0.1, train_loss=1.0, train_accuracy=2.0, test_accuracy=3.0)
        for e in range(5)
    )
    for seed in range(count):
        own = setting.model_copy(update={"seed": seed})
        record = Record(setting=own, outcome="ok", accuracy=70.0, float_accuracy=71.0, curve=curve)
        folder = root / own.key
        folder.mkdir()
        (folder / "record.json").write_text(record_file.text(record))
        (folder / "provenance.json").write_text(PROVENANCE.model_dump_json())
        journal.note(root, record, journal.stamp_of((folder / "record.json").stat()))


def load(root: str) -> None:
    """In a new process: import and load."""
    started = time.perf_counter()
    import mqbench

    frame = mqbench.records(root)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux counts in KiB
    cpu = time.process_time()
    print(f"{frame.height} records in {seconds:.2f} s ({cpu:.2f} s of CPU), {memory:.2f} GB resident")


def main(count: int, place: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        root = Path(folder) / "runs"
        fill(root, count)
        for what in ("from the writers' notes", "from the index", "again", "from the records alone"):
            if what == "from the records alone":
                for path in root.glob(".index-*"):
                    path.unlink()
            print(what, end=": ", flush=True)
            subprocess.run([sys.executable, __file__, "--load", str(root)], check=True)


if __name__ == "__main__":
    if "--load" in sys.argv:
        load(sys.argv[-1])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2] if len(sys.argv) > 2 else None)
