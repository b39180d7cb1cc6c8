"""Where a network ends in floats: sums that are integers all the same, and what floats alone make of them."""

from torch import Tensor

from mqbench.deploy.agreement import Match
from mqbench.deploy.program import Float, Layer, Move, Operation, Program


class FloatEnd:
    """A float tensor that no integer tensor behind it shows.

    Args:
        program: the lowered network.
        operation: a layer on integers, or what gives an output.
    """

    def __init__(self, program: Program, operation: Operation) -> None:
        self.name, self.kind = operation.name, f"{operation.kind}, float output"
        self.step: Tensor | None = None  # of the layer's sum, float64
        if isinstance(operation, Layer):
            grid = program.grid(operation.inputs[0])
            assert grid is not None
            step = operation.weight.channel_scale.double() * grid.scale
            self.step = step if operation.function == "linear" else step[:, *[None] * len(operation.stride)]

    def match(self, first: Tensor, second: Tensor) -> Match:
        """Two computations of it compared, in steps of the sum, or else of the largest value."""
        return (
            Match.of_floats(first, second) if self.step is None else Match.of_sums(first, second, self.step)
        )


def float_ends(program: Program) -> dict[str, FloatEnd]:
    """Layers whose sums reach an output by floats alone, and outputs that floats compute; in order."""
    reached = set(program.outputs)
    found: list[FloatEnd] = []
    for op in reversed(program.operations):
        if op.name not in reached or program.grid(op.name) is not None:
            continue
        if isinstance(op, (Float, Move)):
            reached.update(op.inputs)
        if isinstance(op, Layer) or op.name in program.outputs:
            found.append(FloatEnd(program, op))
    return {end.name: end for end in reversed(found)}
