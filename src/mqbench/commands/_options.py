"""Types of options that several commands have."""

from dataclasses import asdict, dataclass
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mqbench.arguments import Axes, whole
from mqbench.compute import MOST_THREADS, Accelerator, Compute, Precision
from mqbench.errors import RequestError

Whole = Annotated[int, Parameter(converter=whole)]
Count = Annotated[int, Parameter(validator=Number(gte=1), converter=whole)]
Threads = Annotated[int, Parameter(validator=Number(gte=1, lte=MOST_THREADS), converter=whole)]
Files = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Pairs = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Json = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]
NO_AXES = Axes()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """What each run may use.

    Args:
        accelerator: Kind of device; auto is a GPU if there is one.
        devices: GPUs, or processes on a CPU, of each node.
        nodes: Machines, started by torchrun or srun.
        precision: Of the arithmetic.
        compile: Compile the network; worth it for runs of minutes.
        channels_last: Images and weights in NHWC order.
        threads: CPU threads of each process.
        workers: Processes that decode images, where they stream; 1 beside a CPU, up to 8 for a GPU, if not given.
        checkpoint_minutes: Time between checkpoints; there is one at the end of each epoch too.
        monitor_steps: Steps between two looks at accuracies and ranges.
        tensorboard: Folder that takes TensorBoard's event files.
    """

    accelerator: Accelerator = "auto"
    devices: Count = 1
    nodes: Count = 1
    precision: Precision = "32-true"
    compile: Flag = False
    channels_last: Flag = False
    threads: Threads = 1
    workers: Whole | None = None
    checkpoint_minutes: float = 10.0
    monitor_steps: Count = 1000
    tensorboard: str | None = None

    def compute(self) -> Compute:
        """The checked value."""
        return Compute(**asdict(self))


ONE_THREAD = ComputeOptions()


def pairs(given: tuple[str, ...]) -> dict[str, str]:
    """Name to value of options that are written ``name=value``."""
    options: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise RequestError(f"got {text!r} where name=value is expected")
        if name in options:
            raise RequestError(f"{name} is given twice")
        options[name] = value
    return options
