"""Batch statistics of one process or of all (synchronised batch norm, SPEC section 9)."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mqbench.fused.moments import fused_statistics
from mqbench.fused.norm import can_defer
from mqbench.processes import sum_of_all


def batch_statistics(output: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean, biased variance (``[channels]``) and number of elements a channel of a layer's output."""
    count = output.numel() // output.shape[1]
    if can_defer(output):
        return *fused_statistics(output), count
    axes = [axis for axis in range(output.dim()) if axis != 1]
    variance, mean = torch.var_mean(output, axes, correction=0)
    return mean, variance, count


def combine_statistics(
    means: Sequence[Tensor], variances: Sequence[Tensor], counts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the union of batches, from those of each.

    mean = sum n_i m_i / n and var = sum n_i (v_i + (m_i - mean)^2) / n, differentiable.
    """
    weights = torch.tensor(counts, dtype=means[0].dtype, device=means[0].device)
    weights = (weights / weights.sum()).reshape(-1, *[1] * means[0].dim())
    mean = (torch.stack(list(means)) * weights).sum(0)
    return mean, ((torch.stack(list(variances)) + (torch.stack(list(means)) - mean) ** 2) * weights).sum(0)


def joint_statistics(output: Tensor) -> tuple[Tensor, Tensor, int]:
    """`batch_statistics` of the batches of all processes; gradients flow to every process.

    The same sums as `combine_statistics`, by two reductions, so that it holds for gloo on CPU as for NCCL.
    """
    mean, variance, count = batch_statistics(output)
    total = torch.tensor(count, dtype=torch.float64, device=output.device)
    dist.all_reduce(total)
    share = (count / total).to(mean.dtype)
    joint_mean = sum_of_all(mean * share)
    joint_variance = sum_of_all((variance + (mean - joint_mean) ** 2) * share)
    return joint_mean, joint_variance, int(total)
