"""Time networks on the engines of this machine."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

import mqbench
from mqbench.arguments import commas
from mqbench.commands._options import Count, Flag, Json, Threads
from mqbench.commands._print import console_of, print_json
from mqbench.errors import RequestError
from mqbench.latency_record import LatencyRecord, LatencySetting, Precision, latency_records, put_latency
from mqbench.report.latency import ARCHITECTURES, latency_rows, latency_table, paper_rows
from mqbench.store import Store

_SEVERAL = Parameter(negative=(), consume_multiple=True, converter=commas)
Names = Annotated[tuple[str, ...], _SEVERAL, Parameter(show_default=False)]
Counts = Annotated[tuple[int, ...], _SEVERAL, Parameter(validator=Number(gte=1))]
_CLASSES = 1000


def latency(
    *architectures: str,
    runtime: Names = (),
    backend: str = "tvm",
    batch_size: Counts = (1, 8),
    image_size: Count = 224,
    threads: Threads = 1,
    runs: Count = 5,
    store: str = "runs",
    cpu: Flag = False,
    show: Flag = False,
    as_json: Json = False,
) -> int:
    """Time networks on the engines of this machine, in float and quantized, and print the paper's Table 9.

    Weights are random, which changes no time. All engines take turns, so that a busy machine is busy for all.

    Args:
        architectures: Names; the paper's five if none is given.
        runtime: Engines of `mqbench list runtimes`, separated by commas; all that are installed if none is given.
        backend: Whose setting the network is quantized for; tvm is one that every engine runs in integers.
        batch_size: Images of a batch; several, separated by commas, are timed one after the other.
        image_size: Height and width in pixels.
        threads: Of each engine.
        runs: Of each measurement.
        store: Folder of the records; a measurement takes the place of an older one of the same kind.
        cpu: Print CPU times, which a busy machine leaves alone, in place of wall times.
        show: Print what the store has, and measure nothing.
        as_json: Print JSON.

    Examples:
        mqbench latency resnet18 --runtime onnxruntime,openvino --batch-size 1
        mqbench latency --show
    """
    records = Store(store)
    if show:
        records.check_readable()
        _print(list(latency_records(records)), cpu, as_json)
        return 0
    runtimes: Any = import_module("mqbench.deploy.runtimes")
    for engine in runtime:
        runtimes.check(engine)
        runtimes[engine].require()
    for name in architectures:
        mqbench.architectures.check(name)
    records.check_writable()
    made, refused = [], {}
    console = Console(stderr=True, highlight=False)
    from mqbench.compute import Compute
    from mqbench.deploy.latency import WARMUP, compare
    from mqbench.provenance import Clock

    engines = list(runtime) or _installed()
    for name in architectures or ARCHITECTURES:
        program = _program(name, backend, image_size)
        for size in batch_size:
            clock = Clock(Compute(threads=threads, accelerator="cpu"))
            found = compare(program, engines, batch_size=size, threads=threads, runs=runs)
            for engine, one in found.items():
                if isinstance(one, RequestError):
                    refused[engine] = f"{name}: {one}"
                    continue
                for precision, timing in (("float", one.float_timing), ("int8", one.int8_timing)):
                    kind: Precision = "int8" if precision == "int8" else "float"
                    setting = LatencySetting(
                        architecture=name,
                        runtime=engine,
                        precision=kind,
                        backend=backend,
                        batch_size=size,
                        image_size=image_size,
                        threads=threads,
                    )
                    record = LatencyRecord(
                        setting=setting,
                        milliseconds=timing.milliseconds,
                        cpu_milliseconds=timing.cpu_milliseconds,
                        passes=timing.passes,
                        warmup=WARMUP,
                        engine_version=one.version,
                        integer_nodes=one.integer_layers if kind == "int8" else None,
                        layers=one.layers,
                        provenance=clock.provenance(),
                    )
                    put_latency(records, record)
                    made.append(record)
                if not as_json:
                    console.print(
                        f"{name} batch {size} {engine}: {one.float_timing.median:.2f} ms float, "
                        f"{one.median_ms:.2f} ms int8 ({one.speedup:.2f}x), {one.integer_layers} of {one.layers} "
                        "layers in integers",
                        markup=False,
                        soft_wrap=True,
                    )
    if not made:
        raise RequestError("no engine could be timed: " + "; ".join(refused.values()))
    for engine, reason in refused.items():
        console.print(f"{engine} was left out: {reason}", markup=False, soft_wrap=True)
    _print(made, cpu, as_json)
    return 1 if runtime and refused else 0


def _installed() -> list[str]:
    """Engines that are here and meant to be timed."""
    from mqbench.deploy import runtimes

    catalog: Any = runtimes
    found = []
    for name in catalog:
        engine = catalog[name]
        try:
            engine.require()
        except RequestError:
            continue
        if engine.timed:
            found.append(name)
    return found


def _program(name: str, backend: str, image_size: int) -> Any:
    import torch

    from mqbench.deploy.lowering import lower

    torch.manual_seed(0)
    model = mqbench.architectures[name].build(_CLASSES, 3)
    images = torch.randn(2, 3, image_size, image_size)
    network = mqbench.prepare(model, images, backend=backend, algorithm="ptq", bits=8)
    mqbench.calibrate(network, [images])
    return lower(mqbench.convert(network))


def _print(made: Iterable[LatencyRecord], cpu: bool, as_json: bool) -> None:
    made = list(made)
    rows = latency_rows(made, cpu=cpu)
    columns = list(dict.fromkeys([*(r.setting.architecture for r in made)]))
    columns.sort(key=lambda name: (ARCHITECTURES.index(name) if name in ARCHITECTURES else 99, name))
    if as_json:
        print_json(
            {"rows": rows, "records": [r.model_dump(mode="json") for r in made], "paper": paper_rows()}
        )
        return
    console = console_of(sys.stdout)
    console.print(
        f"{'CPU time' if cpu else 'Latency'} of a batch in ms (speed-up over the row before)", markup=False
    )
    console.print(latency_table(rows, columns))
    if paper := paper_rows():
        console.print("\nThe paper's devices (Table 9)", markup=False)
        console.print(latency_table(paper, columns))


COMMAND = latency
