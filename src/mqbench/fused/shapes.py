"""How a parameter of a tensor or of its channels meets the elements."""

from torch import Tensor


def broadcast(parameter: Tensor, x: Tensor, channel_axis: int | None) -> Tensor:
    """View a ``[channels]`` parameter so that it broadcasts along ``channel_axis`` of ``x``."""
    if channel_axis is None or parameter.dim() == 0:
        return parameter
    shape = [1] * x.dim()
    shape[channel_axis] = -1
    return parameter.reshape(shape)


def reduce_like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Sum an elementwise gradient over the axes that ``parameter`` (already broadcastable) lacks."""
    return gradient.sum_to_size(parameter.shape) if parameter.dim() else gradient.sum()
