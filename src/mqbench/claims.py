"""Who is at work on what, in a folder that several processes share.

A claim is a file that its holder touches while it lives. It is created only if there is none, so of two that
want it one gets it; a claim that nobody touches any more may be taken over.
"""

import json
import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from mqbench.liveness import lives

BEAT = 5.0
PATIENCE = 60.0
_DAY = 24 * 3600.0


class Claims:
    """The claims of this process on names in ``folder``, released when the context is left.

    Args:
        folder: takes a file for each claim; created by the first, removed with the last.
        patience: seconds without a sign of life after which another's claim counts for nothing. The clock is
            ours and starts at our first look, so that of another machine need not agree. One of a dead process
            of this machine counts for nothing at once.
        beat: seconds between two signs of life of ours.
        alone: claim nothing, and get everything: for processes that do the same runs together.
    """

    def __init__(
        self, folder: Path, *, patience: float = PATIENCE, beat: float = BEAT, alone: bool = False
    ) -> None:
        self.folder, self.patience, self.beat, self.alone = folder, patience, beat, alone
        self._held: set[str] = set()
        self._seen: dict[str, tuple[int, float]] = {}  # sign of life, and when it was first seen
        self._stop = Event()
        self._thread = Thread(target=self._keep_alive, daemon=True)

    def __enter__(self) -> Self:
        for path in list(self.folder.glob("*.claim")):  # of dead sweeps, whose runs may have their records
            before = _inode(path)
            if before is not None and (not self.is_held(path.stem) or _is_old(path)):
                self._retired(path, before)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for name in list(self._held):
            self.release(name)
        with suppress(OSError):
            self.folder.rmdir()  # fails unless it is empty

    def take(self, name: str) -> bool:
        """Claim a name; False if somebody at work has it."""
        if self.alone:
            return True
        path = self._path(name)
        before = _inode(path)
        if self.is_held(name) or (before is not None and not self._retired(path, before)):
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        except (FileExistsError, FileNotFoundError):  # another was faster, or has just removed the folder
            return False
        except OSError:  # no claims can be made here, and the store will say what else cannot
            return True
        self._held.add(name)
        return True

    def release(self, name: str) -> None:
        """Give a claim up, if it is ours."""
        if name in self._held:
            self._held.remove(name)
            with suppress(OSError):
                self._path(name).unlink()
                self.folder.rmdir()  # fails if others have claims in it

    def is_held(self, name: str) -> bool:
        """Whether somebody, perhaps this process, is at work on a name."""
        path = self._path(name)
        try:
            sign = path.stat().st_mtime_ns
            holder = _holder(path.read_text())
        except OSError:
            self._seen.pop(name, None)
            return False
        if holder.get("host") == socket.gethostname() and not lives(holder["pid"]):
            return False
        now = time.monotonic()
        if name not in self._seen or self._seen[name][0] != sign:
            self._seen[name] = (sign, now)
        return now - self._seen[name][1] < self.patience

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.claim"

    def _keep_alive(self) -> None:
        while not self._stop.wait(self.beat):
            for name in list(self._held):
                with suppress(OSError):  # taken over: we were silent for too long
                    os.utime(self._path(name))

    def _retired(self, path: Path, inode: int) -> bool:
        """Remove the claim that was looked at; False if another has taken it over since."""
        away = self.folder / f".{uuid.uuid4().hex}"
        try:
            path.rename(away)
        except FileNotFoundError:
            return True
        if away.stat().st_ino == inode:
            away.unlink()
            return True
        with suppress(FileExistsError):
            os.link(away, path)
        away.unlink()
        return False


def _holder(text: str) -> dict[str, Any]:
    try:
        holder: dict[str, Any] = json.loads(text)
    except ValueError:  # it is being written
        return {}
    return holder


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _DAY
    except OSError:
        return False
