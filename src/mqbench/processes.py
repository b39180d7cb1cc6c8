"""Sums and extremes over the processes that train together (in a single process, its own), and the threads of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def is_distributed() -> bool:
    """Several processes train together."""
    if not dist.is_available() or not dist.is_initialized():
        return False
    return dist.get_world_size() > 1


class _Sum(Function):
    """The gradient of a sum that every process goes on with is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _reduced(x, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient, dist.ReduceOp.SUM)


def sum_of_all(x: Tensor) -> Tensor:
    """The sum, differentiable."""
    if not is_distributed():
        return x
    total: Tensor = _Sum.apply(x)
    return total


def mean_of_all(x: Tensor) -> Tensor:
    """The mean over processes, differentiable."""
    return sum_of_all(x) / dist.get_world_size() if is_distributed() else x


def least_of_all(x: Tensor) -> Tensor:
    """The elementwise minimum; no gradient."""
    return _reduced(x.detach(), dist.ReduceOp.MIN) if is_distributed() else x


def greatest_of_all(x: Tensor) -> Tensor:
    """The elementwise maximum; no gradient."""
    return _reduced(x.detach(), dist.ReduceOp.MAX) if is_distributed() else x


def _reduced(x: Tensor, operation: Any) -> Tensor:
    result = x.contiguous().clone()
    dist.all_reduce(result, operation)
    return result


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch uses that many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
