"""Cures of known engine faults: another form of the file, or fewer bits in the weights of the layers concerned."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from mqbench.deploy import runtimes
from mqbench.deploy.lowering import lower
from mqbench.deploy.program import Layer, Program, Weight
from mqbench.deploy.runtimes._base import Runtime


@dataclass(frozen=True, kw_only=True)
class Cured:
    """A network that an engine computes without its known faults.

    Args:
        program: the network; `mqbench.verify` and `mqbench.export` take it in place of the converted one.
        options: of the runtime, to be passed on to `mqbench.verify`.
        applied: what was done, a sentence a fault.
    """

    program: Program
    options: dict[str, Any] = field(default_factory=dict)
    applied: tuple[str, ...] = ()


def cure(deployed: fx.GraphModule | Program, *, runtime: str) -> Cured:
    """Change a network, or how it is handed over, so that no known fault of an engine concerns it.

    Args:
        deployed: from `mqbench.convert`, or a lowered program; it is not changed.
        runtime: a name from ``mqbench.deploy.runtimes``.

    Raises:
        RequestError: no such runtime.
    """
    engine: Runtime = runtimes[runtime]  # type: ignore[index]
    program = deployed if isinstance(deployed, Program) else lower(deployed)
    options: dict[str, Any] = {}
    applied = []
    for fault in engine.faults:
        concerned = fault.concerns(program)
        if not concerned:
            continue
        if fault.reduce_weights_to:
            program = reduce_weights(program, concerned, fault.reduce_weights_to)
            bits = fault.reduce_weights_to
            applied.append(
                f"{fault.name}: {bits}-bit weights in {len(concerned)} layers ({concerned[0]}, ...)"
            )
        elif fault.options:
            options |= fault.options
            chosen = ", ".join(f"{name}={value}" for name, value in fault.options.items())
            applied.append(f"{fault.name}: {chosen}")
    return Cured(program=program, options=options, applied=tuple(applied))


def reduce_weights(program: Program, names: Collection[str], bits: int) -> Program:
    """The program with the integer weights of some layers rounded to fewer bits, their scale raised to match."""
    operations = tuple(
        replace(op, weight=_reduced(op.weight, bits)) if isinstance(op, Layer) and op.name in names else op
        for op in program.operations
    )
    return replace(program, operations=operations)


def _reduced(weight: Weight, bits: int) -> Weight:
    if weight.scheme.bits <= bits:
        return weight
    factor = 2.0 ** (weight.scheme.bits - bits)
    scheme = replace(weight.scheme, bits=bits)
    zero_point = torch.round(weight.zero_point.double() / factor)
    shape = [-1] + [1] * (weight.integers.dim() - 1)
    along = zero_point.expand(weight.channels).reshape(shape)
    integers = torch.round(weight.centred().double() / factor) + along
    return Weight(
        integers=integers.clamp(scheme.quant_min, scheme.quant_max).to(weight.integers.dtype),
        scale=weight.scale * factor,
        zero_point=zero_point.to(torch.int32),
        scheme=scheme,
    )
