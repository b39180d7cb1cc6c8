"""Processes that train together: how they start, and batch statistics that are theirs in common."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.multiprocessing import ProcessRaisedException  # type: ignore[attr-defined]
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from mqbench import errors
from mqbench.compute import Compute, processes_outside, started_outside
from mqbench.errors import MQBenchError, RequestError
from mqbench.folding._statistics import joint_statistics
from mqbench.layers import QuantizedLayer
from mqbench.processes import is_distributed
from mqbench.quantizer import FakeQuantize

T = TypeVar("T")
_NAMES = signature(DistributedDataParallel.__init__).parameters
_KEEP_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}


def launch(compute: Compute, work: Callable[..., T], *arguments: Any) -> T:
    """``work(fabric, *arguments)`` in every process of a run; gives what the first process returns.

    One process is this one. Several on this machine are spawned, unless torchrun or Slurm has started
    them already; several machines must be started that way.

    Raises:
        RequestError: as from `fabric_of`, or from a spawned process.
        MQBenchError: a spawned process failed otherwise.
    """
    fabric = fabric_of(compute)
    if compute.processes == 1:
        return work(fabric, *arguments)
    start: Callable[..., T] = fabric.launch
    try:
        return start(_Work(compute.threads, work, arguments))
    except (
        ProcessRaisedException
    ) as error:  # with the traceback of the process, of which the last line says why
        raise failure(error.error_index, str(error).strip().rpartition("\n")[2]) from error


def failure(process: int, reason: str) -> MQBenchError:
    """What a spawned process has raised; a refused request is one however many processes have refused it."""
    kind, _, said = reason.partition(": ")
    found = getattr(errors, kind.removeprefix(f"{errors.__name__}."), None)
    if isinstance(found, type) and issubclass(found, RequestError):
        return RequestError(said)
    if found is errors.UnwritableError:
        return errors.UnwritableError(said)
    return MQBenchError(f"process {process} of the run failed: {reason}")


def fabric_of(compute: Compute) -> Fabric:
    """What starts the processes of a run and knows their devices; starts nothing yet.

    Raises:
        RequestError: more nodes or devices than there are, a precision that the device has not, or processes
            from outside that are not as many as the run is to have.
    """
    started = processes_outside()
    if compute.nodes > 1 and started == 1:
        raise RequestError(
            f"{compute.nodes} nodes are started from outside: run the same command on each with "
            f"`torchrun --nnodes {compute.nodes} --nproc-per-node {compute.devices} ...`, or with srun"
        )
    if started not in (1, compute.processes):
        raise RequestError(
            f"torchrun or srun has started {started} processes, but {compute.nodes} nodes with {compute.devices} "
            f"devices each make {compute.processes}; give --nodes and --devices as they were started"
        )
    try:
        with _quiet():
            fabric = Fabric(
                accelerator=compute.accelerator,
                devices=compute.devices,
                num_nodes=compute.nodes,
                precision=compute.precision,
                strategy=_strategy(compute),
            )
    except Exception as error:  # of many kinds: no such accelerator, too many devices
        reason = str(error).strip().partition("\n")[0]
        raise RequestError(
            f"cannot use {compute.devices} x {compute.accelerator}: {reason or type(error).__name__}"
        ) from error
    if compute.precision == "16-mixed" and fabric.device.type == "cpu":
        raise RequestError("precision 16-mixed needs a GPU; on a CPU there is bf16-mixed")
    return fabric


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Fabric does not tell the terminal what it was asked for, or what it would do in its place."""
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*AMP with fp16 is not supported")  # refused below
            yield
    finally:
        logger.setLevel(before)


class _Work:
    """What each process does; the launcher would take arguments of its own apart, and refuse frozen ones."""

    def __init__(self, threads: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.threads, self.work, self.arguments = threads, work, arguments

    def __call__(self, fabric: Fabric) -> Any:
        torch.set_num_threads(self.threads)
        return self.work(fabric, *self.arguments)


def _strategy(compute: Compute) -> str | Strategy:
    if compute.processes == 1:
        return "auto" if compute.accelerator != "cpu" else SingleDeviceStrategy("cpu")
    return DDPStrategy(
        start_method="popen" if started_outside() else "spawn",
        # statistics are joint where they are to be; the first process must not overwrite the others'
        **_KEEP_BUFFERS,
    )


def share_statistics(model: nn.Module, *, synchronize: bool, batches: int) -> None:
    """Tell a network's layers and quantizers that they train in company.

    Args:
        model: prepared or float.
        synchronize: statistics of folded batch norms are those of all processes.
        batches: batches (of processes and of accumulation) that make up one optimizer step.
    """
    for module in model.modules():
        if isinstance(module, QuantizedLayer):
            module.synchronize = synchronize
        elif isinstance(module, FakeQuantize):
            module.batches_per_step = batches


class SynchronizedBatchNorm(TorchFunctionMode):
    """Inside, every batch norm that trains normalises with the statistics of all processes.

    It works on the function that every batch-norm module calls, so it holds for any network, on any
    device, gloo as well as NCCL; torch's own SyncBatchNorm needs a GPU and plain modules.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is F.batch_norm:
            return _batch_norm(*arguments, **(options or {}))
        return function(*arguments, **(options or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training or not is_distributed():
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    mean, variance, count = joint_statistics(input)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / max(count - 1, 1))).to(running_var.dtype), momentum)
    shape = [1, -1] + [1] * (input.dim() - 2)
    factor = torch.rsqrt(variance + eps)
    factor = factor if weight is None else factor * weight
    shift = -mean * factor if bias is None else bias - mean * factor
    return torch.addcmul(shift.view(shape), input, factor.view(shape))


@contextmanager
def first_process_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, every process has the buffers of the first, whose network is the one that is kept.

    With asynchronous statistics each process has running statistics of its own.
    """
    if not is_distributed():
        yield
        return
    own = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(own[name])


def summed(*values: float) -> tuple[float, ...]:
    """Sums over all processes."""
    if not is_distributed():
        return values
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return tuple(total.tolist())
