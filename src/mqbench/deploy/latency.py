"""How long a batch takes on an engine, quantized and in float, timed turn by turn (paper section 4.4, Table 9)."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, fx

from mqbench.deploy import runtimes
from mqbench.deploy.float_program import float_network
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Program
from mqbench.deploy.runtimes._base import Node, Runtime, Session
from mqbench.errors import RequestError

K = TypeVar("K")

RUNS, WARMUP = 5, 2
_LEAST_SECONDS, _MOST_PASSES = 0.2, 100


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One network on one engine at one precision.

    Args:
        milliseconds: wall time, one entry a run: the median over its passes, for a whole batch.
        cpu_milliseconds: CPU time of all threads, likewise: what a busy machine leaves alone.
        passes: forward passes in each run.
    """

    milliseconds: tuple[float, ...]
    cpu_milliseconds: tuple[float, ...]
    passes: int

    @property
    def median(self) -> float:
        """Over the runs."""
        return statistics.median(self.milliseconds)

    @property
    def spread(self) -> float:
        """Slowest minus fastest run."""
        return max(self.milliseconds) - min(self.milliseconds)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A network on one engine, its quantized form beside its float one.

    Args:
        runtime, version, threads, batch_size: the engine and what it was given.
        float_timing, int8_timing: of the same network without and with quantizers.
        warmup: passes before the first run, which do not count.
        integer_layers, layers: quantized layers that ran in integers by the engine's own account, of all.
    """

    runtime: str
    version: str
    threads: int
    batch_size: int
    float_timing: Timing
    int8_timing: Timing
    warmup: int
    integer_layers: int
    layers: int

    @property
    def speedup(self) -> float:
        """Float over int8."""
        return self.float_timing.median / self.int8_timing.median

    @property
    def median_ms(self) -> float:
        """Of the quantized network, for a whole batch."""
        return self.int8_timing.median


def latency(
    deployed: fx.GraphModule | Program,
    *,
    runtime: str,
    batch_size: int = 1,
    threads: int = 1,
    runs: int = RUNS,
    warmup: int = WARMUP,
) -> Latency:
    """Time a network on one engine, quantized and in float.

    Args:
        deployed: from `mqbench.convert`, or a lowered program.
        runtime: a name from ``mqbench.deploy.runtimes``.
        batch_size: images of a batch; their size is the one that the network was captured with.
        threads: CPU threads of the engine.
        runs: each of enough passes to take 0.2 s, or one that takes longer; float and quantized runs take turns.
        warmup: passes before the first run.

    Raises:
        RequestError: the engine is missing or refuses the network, or a number below 1.
    """
    (found,) = compare(
        deployed, [runtime], batch_size=batch_size, threads=threads, runs=runs, warmup=warmup
    ).values()
    if isinstance(found, RequestError):
        raise found
    return found


def compare(
    deployed: fx.GraphModule | Program,
    names: Iterable[str],
    *,
    batch_size: int = 1,
    threads: int = 1,
    runs: int = RUNS,
    warmup: int = WARMUP,
) -> dict[str, Latency | RequestError]:
    """The same on several engines, all of them turn by turn, so that a busy machine is busy for all.

    An engine that is missing or refuses the network has its error in place of its latency.
    """
    for name, value in (("batch_size", batch_size), ("threads", threads), ("runs", runs)):
        if value < 1:
            raise RequestError(f"{name} must be at least 1, got {value}")
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    plain = float_network(program).program
    inputs = [_images(program.values[name].shape, batch_size) for name in program.inputs]
    sessions: dict[tuple[str, str], Session] = {}
    refused: dict[str, Latency | RequestError] = {}
    names = list(dict.fromkeys(names))
    for name in names:
        engine: Runtime = runtimes[name]  # type: ignore[index]
        if engine.one_thread and threads > 1:
            refused[name] = RequestError(f"{name} runs on one thread here, got threads={threads}")
            continue
        try:
            pair = {
                "int8": engine.load(program, threads=threads),
                "float": engine.load(plain, threads=threads),
            }
        except RequestError as error:
            refused[name] = error
            continue
        sessions |= {(name, precision): session for precision, session in pair.items()}
    timings = take_turns(
        {key: _call(session, inputs) for key, session in sessions.items()}, runs=runs, warmup=warmup
    )
    layers = [layer.name for layer in program.layers()]
    found = dict(refused)
    for name in names:
        if name not in refused:
            found[name] = Latency(
                runtime=name,
                version=runtimes[name].version,  # type: ignore[index]
                threads=threads,
                batch_size=batch_size,
                float_timing=timings[name, "float"],
                int8_timing=timings[name, "int8"],
                warmup=warmup,
                integer_layers=_integer(layers, sessions[name, "int8"].nodes()),
                layers=len(layers),
            )
    return {name: found[name] for name in names}


def take_turns(
    calls: Mapping[K, Callable[[], object]],
    *,
    runs: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
    cpu: Callable[[], float] = time.process_time,
) -> dict[K, Timing]:
    """Time several calls, one run of each in turn.

    A run is as many passes as take 0.2 s (at least 1, at most 100) and counts as the median of them.
    """
    passes: dict[K, int] = {}
    for key, call in calls.items():
        first, _ = _seconds(call, clock, cpu)
        for _ in range(warmup - 1):
            first = min(first, _seconds(call, clock, cpu)[0])
        passes[key] = max(1, min(_MOST_PASSES, round(_LEAST_SECONDS / max(first, 1e-6))))
    taken: dict[K, list[tuple[float, float]]] = {key: [] for key in calls}
    for _ in range(runs):
        for key, call in calls.items():
            pairs = [_seconds(call, clock, cpu) for _ in range(passes[key])]
            wall, used = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
            taken[key].append((wall, used))
    return {
        key: Timing(
            milliseconds=tuple(wall for wall, _ in pairs),
            cpu_milliseconds=tuple(used for _, used in pairs),
            passes=passes[key],
        )
        for key, pairs in taken.items()
    }


def _seconds(
    call: Callable[[], object], clock: Callable[[], float], cpu: Callable[[], float]
) -> tuple[float, float]:
    """Wall and CPU time of one call."""
    begin, used = clock(), cpu()
    call()
    return clock() - begin, cpu() - used


def _call(session: Session, inputs: Sequence[Tensor]) -> Callable[[], object]:
    return lambda: session.run(*inputs)


def _images(shape: Sequence[int | None], batch_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn([batch_size, *(size or 1 for size in shape[1:])], generator=generator)


def _integer(layers: Sequence[str], nodes: Iterable[Node]) -> int:
    ran = {name for node in nodes if node.precision == "integer" for name in node.operations}
    return sum(layer in ran for layer in layers)
