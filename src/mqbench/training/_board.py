"""TensorBoard: the monitor's rows as event files, while the training runs."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mqbench.errors import RequestError

_SCALARS = ("train_loss", "learning_rate", "train_accuracy", "test_accuracy")


def check_board() -> None:
    """Raise `RequestError` if tensorboard is not installed."""
    if find_spec("tensorboard") is None:
        raise RequestError("--tensorboard needs tensorboard: pip install 'mqbench[tensorboard]'")


class Board:
    """A folder of event files.

    Args:
        folder: of one run; made when something is written.

    Raises:
        RequestError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        check_board()
        module: Any = import_module("torch.utils.tensorboard")
        self._writer = module.SummaryWriter(str(folder))

    def add(self, row: dict[str, Any], ranges: list[dict[str, Any]]) -> None:
        """One look of the monitor: accuracies, and scale and clipping range of every quantizer."""
        step = int(row["step"])
        for name in _SCALARS:
            self._writer.add_scalar(name, row[name], step)
        for each in ranges:
            for name in ("scale", "clip_min", "clip_max"):
                if each[name] is not None:
                    self._writer.add_scalar(f"{name}/{each['quantizer']}", each[name], step)
        self._writer.flush()
