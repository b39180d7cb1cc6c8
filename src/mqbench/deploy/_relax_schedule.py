"""How TVM's loops are laid out for a CPU: terms of a sum outside, channels and pixels of the result inside.

TVM compiles loops as they stand, each sum for itself with its terms innermost. Sums of integers can be vectorized
so, sums of floats cannot, as that adds in another order. Here both have the same loops: some channels of some
pixels are summed in registers, term by term in the given order, and what follows element by element is one
loop. No value changes.
"""

from typing import Any

from mqbench.deploy._relax_writer import MAGIC

_LANES, _CHANNELS = 16, 8  # pixels and channels that are summed at once
_SUMS = ("conv", "matmul")  # in the names of those that are laid out


def scheduled(module: Any, target: Any) -> Any:
    """A Relax module, its operations fused to loops for ``target``."""
    import tvm
    from tvm import relax

    with target:
        module = relax.get_pipeline("zero")(module)
        for variable, function in list(module.functions_items()):
            if isinstance(function, tvm.tirx.PrimFunc):
                module[variable] = _function(tvm, function)
    return module


def _function(tvm: Any, function: Any) -> Any:
    schedule = tvm.s_tir.Schedule(function)
    blocks = [
        (block, schedule.get(block)) for block in schedule.get_child_blocks(schedule.get_sblock("root"))
    ]
    for block, found in blocks:
        if not any(_reduces(tvm, found)) and not _pads(found) and not _rounds(tvm, found):
            try:
                schedule.compute_inline(block)
            except tvm.s_tir.ScheduleError:
                continue  # it is the last, or made once for many readers
    for block, found in blocks:
        if any(_reduces(tvm, found)) and any(kind in found.name_hint for kind in _SUMS):
            _lay_out(tvm, schedule, block, _reduces(tvm, found))
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)


def _reduces(tvm: Any, block: Any) -> list[bool]:
    """Of each axis of a block: whether it is summed over."""
    return [int(axis.iter_type) == int(tvm.tirx.IterVar.CommReduce) for axis in block.iter_vars]


def _pads(block: Any) -> bool:
    """Whether its tensor is larger than what it reads: in a sum it would be asked for at each term."""
    shapes = [[str(n) for n in region.source.shape] for region in (*block.reads[:1], *block.writes)]
    return block.name_hint.startswith("pad_temp") and shapes[0] != shapes[-1]


def _rounds(tvm: Any, block: Any) -> bool:
    """Half of x + c - c, which must stay two steps: TVM would cancel it."""
    value = getattr(block.body, "value", None)
    terms = [getattr(value, side, None) for side in ("a", "b")]
    return any(isinstance(term, tvm.tirx.FloatImm) and float(term.value) in MAGIC for term in terms)


def _lay_out(tvm: Any, schedule: Any, block: Any, reduces: list[bool]) -> None:
    loops = schedule.get_loops(block)
    if len(loops) != len(reduces):
        return  # an axis of size 1 has no loop
    terms = [loop for loop, reduced in zip(loops, reduces, strict=True) if reduced]
    outer = [loop for loop, reduced in zip(loops, reduces, strict=True) if not reduced]
    lanes = _part(tvm, schedule, outer[-1], _LANES)
    rest, pixels = schedule.split(outer.pop(), [None, lanes])
    outer.append(rest)
    inner = [pixels]
    if len(outer) > 2:
        channels = _part(tvm, schedule, outer[1], _CHANNELS)
        outer[1], several = schedule.split(outer[1], [None, channels])
        inner.insert(0, several)
    schedule.reorder(*outer, *terms, *inner)
    result = schedule.cache_write(block, 0, "local")
    schedule.reverse_compute_at(result, outer[-1])
    for loop in (pixels, schedule.get_loops(result)[-1]):
        schedule.vectorize(loop)
    for loop in inner[:-1]:
        schedule.unroll(loop)
    schedule.decompose_reduction(block, terms[0])


def _part(tvm: Any, schedule: Any, loop: Any, most: int) -> int:
    """The largest divisor of a loop's extent up to ``most``; 1 where the extent is not known."""
    extent = schedule.get(loop).extent
    if not isinstance(extent, tvm.tirx.IntImm):
        return 1
    return max(n for n in range(1, most + 1) if int(extent) % n == 0)
