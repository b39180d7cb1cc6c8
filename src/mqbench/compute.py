"""Where and how a run is computed: devices, processes, precision; nothing of it names a setting."""

import os
from dataclasses import dataclass, fields
from typing import Literal, get_args

from mqbench.errors import RequestError

Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]
Accelerator = Literal["auto", "cpu", "gpu", "mps"]
MOST_THREADS = 1024  # many more than any processor has; a runtime that cannot start them ends the process
_STARTED = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


def processes_outside() -> int:
    """How many processes torchrun or Slurm has started for one run, this one among them; 1 without them."""
    return max(int(os.environ.get(size, "1")) if rank in os.environ else 1 for rank, size in _STARTED)


def started_outside() -> bool:
    """Several processes were started for us, by torchrun or Slurm."""
    return processes_outside() > 1


def is_main_process() -> bool:
    """This process is the one that writes and speaks, among those that torchrun or Slurm started."""
    if not started_outside():
        return True
    return all(os.environ.get(rank, "0") == "0" for rank, _ in _STARTED)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What one run may use.

    Args:
        accelerator: kind of device; "auto" is a GPU if there is one.
        devices: devices (on a CPU: processes) of each node.
        nodes: machines; more than one are started by torchrun or Slurm, with the same command on each.
        precision: of the network's arithmetic; "bf16-mixed" is automatic mixed precision.
        compile: compile the network (`torch.compile`); worth it for runs of minutes.
        channels_last: images and weights in NHWC order.
        threads: CPU threads of each process.
        workers: processes that decode images for each training process, where images stream.
        checkpoint_minutes: time between checkpoints; one is also written at the end of each epoch.
        monitor_steps: optimizer steps between two looks at accuracies and quantizers.
        tensorboard: folder that takes TensorBoard's event files, a folder for each run.

    Raises:
        RequestError: a value that is not allowed.
    """

    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "32-true"
    compile: bool = False
    channels_last: bool = False
    threads: int = 1
    workers: int | None = None
    checkpoint_minutes: float = 10.0
    monitor_steps: int = 1000
    tensorboard: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("accelerator", Accelerator), ("precision", Precision)):
            if getattr(self, name) not in get_args(allowed):
                names = ", ".join(get_args(allowed))
                raise RequestError(f"{name} must be one of {names}, got {getattr(self, name)!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise RequestError(f"{field.name} must be at least 1, got {value!r}")
        if self.threads > MOST_THREADS:
            raise RequestError(f"threads must be at most {MOST_THREADS}, got {self.threads}")
        if self.workers is not None and self.workers < 0:
            raise RequestError(f"workers must be at least 0, got {self.workers}")
        if not self.checkpoint_minutes > 0:
            raise RequestError(f"checkpoint_minutes must be more than 0, got {self.checkpoint_minutes}")

    @property
    def processes(self) -> int:
        """Processes that train together."""
        return self.devices * self.nodes
