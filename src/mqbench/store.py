"""One directory per record, there as a whole or not at all."""

import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mqbench import journal, record_file
from mqbench.errors import StoreError, UnwritableError
from mqbench.liveness import lives
from mqbench.record import Record, Setting

_DAY = 24 * 3600.0
_LOCAL = "file://"
KEY = re.compile(r"[0-9a-f]{16}")
_LEFTOVER = re.compile(r"\.(?P<state>new|old)\.(?P<host>.+)\.(?P<pid>\d+)\.\w{8}\.(?P<key>[0-9a-f]{16})")


class Store:
    """The records under ``root``: ``<key>/record.json``, ``<key>/provenance.json`` and attached files.

    A record appears by the rename of a finished directory, so whatever kills a writer leaves a whole
    record or none. Several processes may write at once: of two records of one setting the first stays.
    ``root`` is created by the first `put`; its parent must exist.

    ``Store("s3://bucket/runs")``, or another URL that ``fsspec`` knows, gives an `ObjectStore`.
    """

    def __new__(cls, root: str | os.PathLike[str] = "") -> "Store":
        """An `ObjectStore` for a URL."""
        if cls is Store and "://" in os.fspath(root) and not os.fspath(root).startswith(_LOCAL):
            from mqbench.object_store import ObjectStore

            return object.__new__(ObjectStore)
        return object.__new__(cls)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if not os.fspath(root):
            raise StoreError("the store has an empty name; give a folder, such as runs")
        self.root = Path(os.fspath(root).removeprefix(_LOCAL))

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @property
    def shared(self) -> bool:
        """Whether another process sees the records."""
        return True

    def __contains__(self, which: str | Setting) -> bool:
        return (self._home(which) / record_file.RECORD).is_file()

    def __iter__(self) -> Iterator[Record]:
        """Every record, by key. Raises ``StoreError`` if the folder or a record cannot be read."""
        with self._naming("read"):
            keys = sorted(entry.name for entry in self.root.iterdir() if KEY.fullmatch(entry.name))
        for key in keys:
            record = self.get(key)
            if record is not None:
                yield record

    def get(self, which: str | Setting) -> Record | None:
        """The record of a setting or key, or None.

        Raises:
            StoreError: the record is damaged, or was written by a newer version of this package.
        """
        home = self._home(which)
        for _ in range(2):  # a record that is being replaced is away for a moment
            try:
                return record_file.read(home)
            except FileNotFoundError:
                if not home.exists():
                    return None
        raise StoreError(f"damaged record {home} (no {record_file.RECORD}); remove it and run again")

    def stamps(self) -> dict[str, str]:
        """Key of every record to a text that changes when its file does; opens no record.

        Raises:
            StoreError: the folder cannot be read.
        """
        found, root = {}, os.fspath(self.root)
        with self._naming("read"):
            keys = [entry.name for entry in os.scandir(root) if KEY.fullmatch(entry.name)]
        for key in keys:
            try:
                status = os.stat(f"{root}/{key}/{record_file.RECORD}")
            except OSError:
                found[key] = ""  # damaged, or being replaced; whoever reads it will see
            else:
                found[key] = journal.stamp_of(status)
        return found

    def read_cache(self, name: str) -> bytes | None:
        """What `write_cache` has left under a name, or None."""
        try:
            return (self.root / name).read_bytes()
        except OSError:
            return None

    def write_cache(self, name: str, content: bytes) -> None:
        """Leave something beside the records that can be made from them again; nothing where that fails."""
        hand = self.root / f"{name}.{uuid.uuid4().hex[:8]}"
        try:
            hand.write_bytes(content)
            hand.replace(self.root / name)
        except OSError:  # a folder of somebody else, or a full disk: the records are the truth anyway
            hand.unlink(missing_ok=True)

    def write_document(self, folder: str, name: str, content: bytes) -> None:
        """Put a file that is no record, and has a folder of its own, as a whole; one of that name gives way.

        Raises:
            StoreError: it cannot be written.
        """
        place = self.root / folder
        new = place / f".{name}.{uuid.uuid4().hex[:8]}"
        with self._naming("write"):
            self.root.mkdir(exist_ok=True)
            place.mkdir(exist_ok=True)
            try:
                with new.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(place / name)
            finally:
                new.unlink(missing_ok=True)

    def documents(self, folder: str) -> dict[str, bytes]:
        """Name to content of what `write_document` has put into a folder, by name."""
        with self._naming("read"):
            found = sorted(path for path in (self.root / folder).glob("[!.]*") if path.is_file())
            return {path.name: path.read_bytes() for path in found}

    def notes(self) -> bytes:
        """Lines of JSON that writers have left for the index."""
        return journal.take(self.root)

    def drop_notes(self) -> None:
        """Forget them."""
        journal.drop(self.root)

    def attachments(self, which: str | Setting) -> dict[str, bytes]:
        """Name to content of the files attached to a record."""
        with self._naming("read"):
            return {path.name: path.read_bytes() for path in record_file.attached(self._home(which))}

    def file(self, which: str | Setting, name: str) -> Path:
        """Path of a file attached to a record. Raises ``StoreError`` if there is none of that name."""
        path = self._home(which) / name
        if not path.is_file():
            raise StoreError(f"no file {name} in {path.parent}")
        return path

    def put(self, record: Record, files: Mapping[str, bytes] = {}, *, replace: bool = False) -> None:
        """Write a record and its files, unless there is one of the same setting already.

        Args:
            record: what to write; its setting gives the key.
            files: name to content of files beside it.
            replace: take the place of a record that failed; one that did not fail always stays.

        Raises:
            StoreError: the folder cannot be written.
        """
        home, hand = self._home(record.setting), self._sibling(record.setting.key, "new")
        away = []  # removed once there is a record again, so that a kill leaves no half of one to put back
        with self._naming("write"):
            try:
                self.root.mkdir(exist_ok=True)
                record_file.write(hand, record, files)
                stamp = journal.stamp_of((hand / record_file.RECORD).stat())
                while not _moved(hand, home) and replace and _replaceable(home):
                    retired = self._sibling(record.setting.key, "old")
                    if not _taken(home, retired):
                        continue
                    if not _replaceable(retired):  # another writer finished between the look and the move
                        hand, retired = retired, hand
                    away.append(retired)
                record_file.sync(self.root)
                journal.note(self.root, record, stamp)
            finally:
                for path in away:
                    _taken(path, home)  # nothing, unless we were interrupted between the two moves
                for path in (hand, *away):
                    shutil.rmtree(path, ignore_errors=True)

    def scratch(self, key: str) -> Path:
        """Where a run that is not done keeps its checkpoint; its folder may not be there yet."""
        return self.root / ".checkpoints" / f"{key}.pt"

    def clear_scratch(self) -> None:
        """Remove checkpoints and claims of runs that have a result: who made it died before it could."""
        folder = self.scratch("-").parent
        for path in folder.glob("*.pt"):
            with suppress(
                OSError
            ):  # a damaged record, which whoever reads it will see; a folder of somebody else
                record = self.get(path.stem) if KEY.fullmatch(path.stem) else None
                if record is not None and record.outcome != "failed":
                    for left in (path, path.with_suffix(".claim"), *folder.glob(f".{path.name}.*")):
                        left.unlink(missing_ok=True)

    def exists(self) -> bool:
        """Whether there is anything at ``root``. Raises ``StoreError`` if that cannot be told."""
        with self._naming("read"):
            return self.root.exists()

    def check_readable(self) -> None:
        """Raise ``StoreError`` unless there is a folder that can be listed."""
        if not self.exists():
            raise StoreError(f"there are no records at {self.root}; mqbench run makes them")
        with self._naming("read"):
            next(self.root.iterdir(), None)

    def check_writable(self) -> None:
        """Raise ``StoreError`` unless a record could be written now; leaves nothing behind."""
        folder = self.root if self.exists() else self.root.parent
        with self._naming("write"), tempfile.TemporaryDirectory(prefix=".mqbench-", dir=folder):
            pass

    def clean(self) -> None:
        """Remove what dead writers left: those of a dead process of this host, or older than a day.

        A failed record whose replacement was cut short is put back.
        """
        for path in list(self.root.glob(".*")):
            match = _LEFTOVER.fullmatch(path.name)
            if match is None or not _dead(path, match["host"], int(match["pid"])):
                continue
            if match["state"] == "new" or not _taken(path, self._home(match["key"])):
                shutil.rmtree(path, ignore_errors=True)

    def _home(self, which: str | Setting) -> Path:
        return self.root / (which if isinstance(which, str) else which.key)

    def _sibling(self, key: str, state: str) -> Path:
        token = uuid.uuid4().hex[:8]
        return self.root / f".{state}.{socket.gethostname()}.{os.getpid()}.{token}.{key}"

    @contextmanager
    def _naming(self, action: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            parent, reason = self.root.parent, error.strerror
            # Not the methods of Path, which raise once more.
            if not os.path.isdir(parent):
                reason = f"there is no folder {parent}"
            elif os.path.exists(self.root) and not os.path.isdir(self.root):
                reason = "it is not a folder"
            kind = UnwritableError if action == "write" else StoreError
            raise kind(f"cannot {action} {self.root}: {reason}") from error


def _moved(source: Path, target: Path) -> bool:
    """Rename a directory; False if the target is there (it is not overwritten unless it is empty)."""
    try:
        source.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    return True


def _taken(source: Path, target: Path) -> bool:
    """Like `_moved`, but False too if another writer was faster and the source is gone."""
    try:
        return _moved(source, target)
    except FileNotFoundError:
        return False


def _replaceable(folder: Path) -> bool:
    try:
        return record_file.read(folder).outcome == "failed"
    except FileNotFoundError:
        return True


def _dead(path: Path, host: str, pid: int) -> bool:
    try:
        if time.time() - path.stat().st_mtime > _DAY:
            return True
    except OSError:  # gone by now
        return False
    return host == socket.gethostname() and not lives(pid)
