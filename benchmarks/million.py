"""Cost of a study of a million settings: enumerating it, planning it, and getting its first run started.

Prints CPU seconds and the process's peak memory after each step. The runs themselves are stand-ins.

    PYTHONPATH=tests python benchmarks/million.py
"""

import resource
import tempfile
import time
from importlib import import_module
from itertools import islice
from pathlib import Path

import standin
from mqbench.executors._base import Event, Planned
from mqbench.schedule import windows
from mqbench.store import Store
from mqbench.study import Study
from mqbench.sweep import stream

MILLION = Study(
    name="million",
    axes={
        "architecture": ["digits_resnet", "resnet18", "resnet50", "mobilenetv2", "resnet20"],
        "dataset": "digits",
        "algorithm": ["lsq", "pact", "dsq", "qil", "dorefa", "lsq_plus", "tqt", "ptq"],
        "backend": ["academic", "tvm", "snpe", "acl", "fbgemm"],
        "bits": [2, 3, 4, 5, 8],
        "bn_folding": [-1, 0, 1, 2],
        "seeds": list(range(250)),
    },
)


class Report:
    """Prints what was done, and what it cost since the last line."""

    def __init__(self) -> None:
        self.before = time.process_time()

    def __call__(self, done: str) -> None:
        seconds = time.process_time() - self.before
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{done:40} {seconds:6.2f} CPU s, peak {memory} MiB")
        self.before = time.process_time()


def planned(event: Event) -> None:
    if isinstance(event, Planned):
        print(event)


if __name__ == "__main__":
    report = Report()
    report(f"enumerated {sum(1 for _ in MILLION.settings())}")
    report(f"planned {sum(len(runs) for runs, _ in windows(MILLION.settings()))}")
    import_module("torch")
    report("torch imported, as a run needs it")
    standin.validate = lambda *_: None  # its rule for two bits is for tests
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 5000, 1):
            runs = stream(
                MILLION.settings(), Store(Path(folder, "runs")), work="standin:run", listener=planned
            )
            made = sum(1 for _ in islice(runs, count))
            report(f"{made} more runs made")
            runs.close()  # type: ignore[attr-defined]
