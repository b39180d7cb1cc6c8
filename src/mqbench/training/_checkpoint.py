"""Where a training that was killed goes on: model, optimizer, step, curve and random state, in one file."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mqbench.errors import RequestError, UnwritableError

VERSION = 1


class Checkpoint:
    """A file that is there as a whole or not at all.

    Args:
        path: of the file; its folder is made when it is first written.
        minutes: least time between two writes that are only due to time.
    """

    def __init__(self, path: Path, minutes: float = 10.0) -> None:
        self.path = path
        self.seconds = minutes * 60
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """It is time for another write."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Write tensors, numbers and strings; the file of before stays until this one is on disk.

        Raises:
            UnwritableError: it cannot be written.
        """
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as file:
                torch.save({"version": VERSION, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except (OSError, RuntimeError) as error:
            new.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            raise UnwritableError(f"cannot write checkpoint {self.path}: {reason}") from error
        self._last = time.monotonic()

    def load(self, *, look: bool = False) -> dict[str, Any] | None:
        """What was saved last, or None; a file that is damaged or of another version counts as none.

        To ``look`` is to read what is no tensor, and leave the tensors in the file until they are asked for.
        """
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=look)
        except FileNotFoundError:
            return None
        except Exception:  # torch raises many kinds; a run that starts anew loses time, not results
            return None
        return state if isinstance(state, dict) and state.get("version") == VERSION else None

    def remove(self) -> None:
        """The run has its record; what a process that was killed while it wrote has left goes too."""
        self.path.unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{self.path.name}.*"):
            left.unlink(missing_ok=True)


def check_checkpoint(path: Path, processes: int) -> None:
    """Raise `RequestError` if a training that was killed cannot go on with so many processes.

    Each has a random state of its own and, with asynchronous statistics, running statistics; and what a
    batch norm sees of a batch depends on how many there are. A run that changed its number half-way would
    end in the record of neither.
    """
    saved = Checkpoint(path).load(look=True) if path.exists() else None
    if saved is not None:
        _check_processes(saved, path, processes)


def saved_for(checkpoint: Checkpoint, total: int, processes: int) -> dict[str, Any] | None:
    """What a training of ``total`` steps goes on from; None if there is nothing, or of another length.

    Raises:
        RequestError: as from `check_checkpoint`.
    """
    saved = checkpoint.load()
    if saved is None or saved["total"] != total:  # of other data: it would not be this training
        return None
    _check_processes(saved, checkpoint.path, processes)
    return saved


def _check_processes(saved: Mapping[str, Any], path: Path, processes: int) -> None:
    written = len(saved["processes"])
    if written != processes:
        raise RequestError(
            f"{path} holds a run of {written} process{'es' * (written > 1)} that was interrupted, and it cannot go on "
            f"with {processes}; give --devices (and --nodes) as before, or remove the file to begin anew"
        )
