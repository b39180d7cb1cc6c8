"""A float convolution of a program with the zero padding in front of it, as engines take them: in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mqbench.deploy._arguments import argument
from mqbench.deploy._patterns import layer_options
from mqbench.deploy.program import Float, Pads, Program, Ref
from mqbench.errors import IncompatibleError

_PLACES = {"stride": (3, 1), "padding": (4, 0), "dilation": (5, 1), "groups": (6, 1)}


@dataclass(frozen=True, kw_only=True)
class FloatConvolution:
    """What a float convolution is made of; numbers a spatial axis.

    Args:
        source: the tensor that it reads.
        weight, bias: names of its tensors.
        stride, padding, dilation, groups: as in `mqbench.deploy.program.Layer`.
    """

    source: str
    weight: str
    bias: str | None
    stride: tuple[int, ...]
    padding: Pads
    dilation: tuple[int, ...]
    groups: int


def float_convolution(program: Program, op: Float, pads: "dict[str, Pads] | None" = None) -> FloatConvolution:
    """Read a ``conv1d``, ``conv2d`` or ``conv3d``; ``pads`` are those of `merged_pads`.

    Raises:
        IncompatibleError: its weight is computed.
    """
    source, weight, bias = (*op.args[:3], None)[:3]
    if not isinstance(weight, Ref) or weight.name not in program.constants:
        raise IncompatibleError(f"{op.name} convolves with a computed weight, which has no form here")
    assert isinstance(source, Ref)
    given = {name: argument(op, place, name, default) for name, (place, default) in _PLACES.items()}
    name, extra = source.name, (pads or {}).get(source.name, ())
    if extra:
        name = next(x for x in program.operations if x.name == source.name).inputs[0]
    return FloatConvolution(
        source=name,
        weight=weight.name,
        bias=bias.name if isinstance(bias, Ref) else None,
        **layer_options(op.target, given, tuple(program.constants[weight.name].shape[2:]), extra),
    )


def merged_pads(program: Program, keep: Sequence[str] = ()) -> dict[str, Pads]:
    """Float zero paddings of spatial axes that only one float convolution reads, and nobody else wants to see.

    Args:
        program: it.
        keep: tensors that must be there, besides the outputs.
    """
    readers, kept = program.readers(), {*program.outputs, *keep}
    found = {}
    for op in program.operations:
        if not isinstance(op, Float) or op.name in kept or len(readers[op.name]) != 1:
            continue
        (reader,) = readers[op.name]
        pads = _zero_pads(op, len(program.values[op.name].shape) - 2)
        if pads and isinstance(reader, Float) and reader.target.startswith(f"aten.conv{len(pads)}d."):
            found[op.name] = pads
    return found


def _zero_pads(op: Float, spatial: int) -> Pads:
    """(before, after) of each spatial axis; () if the operation is anything else."""
    if not op.target.startswith("aten.constant_pad_nd.") or any((*op.args[2:], *op.kwargs.values())):
        return ()
    flat: Any = op.args[1]
    pairs = list(zip(flat[::2], flat[1::2], strict=True))  # the last axis first
    if len(pairs) > spatial or min(flat) < 0:
        return ()
    return tuple(reversed([*pairs, *[(0, 0)] * (spatial - len(pairs))]))
