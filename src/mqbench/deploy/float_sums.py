"""Layers that end a network in floats: their sums are integers all the same, and can be compared as such."""

from torch import Tensor

from mqbench.deploy.program import Program


def float_sums(program: Program) -> dict[str, Tensor]:
    """Layers on integers whose result is a float output: what one step of their sum is worth, float64."""
    found = {}
    for layer in program.layers():
        grid = program.grid(layer.inputs[0])
        if layer.name in program.outputs and program.grid(layer.name) is None and grid is not None:
            step = layer.weight.channel_scale.double() * grid.scale
            found[layer.name] = step if layer.function == "linear" else step[:, *[None] * len(layer.stride)]
    return found
