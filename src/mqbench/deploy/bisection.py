"""`bisect`: where an engine and the integer reference part, watching one tensor at a time."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from mqbench.deploy import runtimes
from mqbench.deploy.agreement import LayerAgreement, Match
from mqbench.deploy.float_ends import float_ends
from mqbench.deploy.lowering import lower
from mqbench.deploy.network import integer_network
from mqbench.deploy.program import Program
from mqbench.deploy.runtimes._base import Runtime
from mqbench.errors import RequestError


def bisect(
    deployed: fx.GraphModule | Program,
    *inputs: Tensor,
    runtime: str = "onnxruntime",
    file: str | Path | None = None,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
) -> LayerAgreement | None:
    """The first tensor where the engine and the integer reference part, watching one tensor at a time.

    An engine that is asked for many tensors may fuse less; here it gives one tensor besides its output, and
    halves of the network are tried, so that about log2 of the number of layers are loaded. Halving may pass over a
    branch, so what is found is followed back until all that it was computed from is equal. Where no integer
    differs, what ends in floats is compared (`Agreement.outputs`). None if all that was tried is equal.

    Args:
        deployed, runtime, file, threads, options: as for `mqbench.verify`.
        inputs: one batch.

    Raises:
        RequestError: the engine is missing or refuses the network, or the inputs do not fit it.
    """
    engine: Runtime = runtimes[runtime]  # type: ignore[index]
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    integer, _ = integer_network(program, engine.arithmetic)
    names = program.integer_values()
    operations, ends = {op.name: op for op in program.operations}, float_ends(program)
    expected = integer.values(*inputs, names=[*names, *ends])
    if not len(inputs[0]):
        raise RequestError("bisect needs at least one image, got an empty batch")
    path = None if file is None else Path(file)

    @cache
    def parted(name: str) -> LayerAgreement | None:
        session = engine.load(integer.program, path, threads=threads, watch=[name], options=options)
        found, end = session.run(*inputs)[name], ends.get(name)
        match = Match.of(expected[name], found) if end is None else end.match(expected[name], found)
        kind = operations[name].kind if end is None else end.kind
        return LayerAgreement(name=name, kind=kind, free=match) if match.max_steps else None

    low = bisect_left(names, True, key=lambda name: parted(name) is not None)
    nearest = names[low : low + 1] or _integers_behind(program, program.outputs)
    found = next(filter(None, map(parted, nearest)), None)
    while found:
        behind = _integers_behind(program, operations[found.name].inputs)
        earlier = next(filter(None, map(parted, behind)), None)
        if earlier is None:
            break
        found = earlier
    return found or next(filter(None, map(parted, ends)), None)


def _integers_behind(program: Program, names: Sequence[str]) -> list[str]:
    """The tensors, or where they are floats the integer tensors that they are computed from by floats alone."""
    operations = {op.name: op for op in program.operations}
    integers, open_ = set(program.integer_values()), list(names)
    found = []
    while open_:
        name = open_.pop()
        if name in integers:
            found.append(name)
        elif name in operations:
            open_ += operations[name].inputs
    return list(dict.fromkeys(found))
