"""How a parameter of a tensor or of its channels meets the elements, and how they lie in memory."""

import torch
from torch import Tensor

from mqbench.errors import RequestError


def check_channels(number: int, x: Tensor, channel_axis: int) -> None:
    """Whether ``number`` parameters go with the channels of ``x``; one goes with any.

    Raises:
        RequestError: it has another number of channels, or no such axis.
    """
    if not -x.dim() <= channel_axis < x.dim():
        raise RequestError(
            f"channel axis {channel_axis} does not exist in a tensor of shape {tuple(x.shape)}"
        )
    if number not in (1, x.shape[channel_axis]):
        raise RequestError(
            f"a quantizer of {number} channels got a tensor of shape {tuple(x.shape)}, "
            f"with {x.shape[channel_axis]} along axis {channel_axis}"
        )


def broadcast(parameter: Tensor, x: Tensor, channel_axis: int | None) -> Tensor:
    """View a ``[channels]`` parameter so that it broadcasts along ``channel_axis`` of ``x``."""
    if channel_axis is None or parameter.dim() == 0:
        return parameter
    check_channels(parameter.numel(), x, channel_axis)
    shape = [1] * x.dim()
    shape[channel_axis] = -1
    return parameter.reshape(shape)


def reduce_like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Sum an elementwise gradient over the axes that ``parameter`` (already broadcastable) lacks."""
    if parameter.dim():
        return gradient.sum_to_size(parameter.shape)
    if torch.compiler.is_compiling() and gradient.dim() > 2:
        return gradient.sum([0, *range(2, gradient.dim())]).sum()
    return gradient.sum()


def ordered(x: Tensor, *, any_order: bool = True) -> Tensor:
    """The tensor in the order of its axes; in any dense order, if that does."""
    return x if x.is_contiguous() or (any_order and is_channels_last(x)) else x.contiguous()


def is_channels_last(x: Tensor) -> bool:
    """Dense, with the first axis outermost, but not in the order of the axes."""
    return (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )
