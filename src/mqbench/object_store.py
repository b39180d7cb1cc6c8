"""Records on an object store (S3, GCS, ...), through fsspec.

An object appears as a whole, but there is no rename of a folder. So the files of a record are written first,
under names of their own, and the record itself last, as one object that names them: it is there as a whole
or not at all. A finished record is created, never overwritten; a failed one lies in another object, so it can
neither hide nor replace a finished one, whoever writes when.
"""

import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mqbench import record_file
from mqbench.errors import StoreError
from mqbench.record import Record, Setting
from mqbench.store import KEY, Store

FAILED = "failed.json"
_DAY = 24 * 3600.0
_CHANGING = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created", "size")


class Url(str):
    """A URL with the few methods of a path that a store's root needs."""

    __slots__ = ()

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.rstrip('/')}/{name}")

    def absolute(self) -> "Url":
        """Itself."""
        return self


class ObjectStore(Store):
    """A `Store` at a URL; ``Store(url)`` makes it.

    Of two finished records of one setting the first stays where the object store can create an object only
    if there is none (S3, GCS, memory). What a run keeps while it goes lies on the local disk, so a run that
    was cut short goes on only on the same machine.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.url = Url(os.fspath(root).rstrip("/"))
        self.root = self.url  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (str(self.root),)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @property
    def shared(self) -> bool:
        """Whether another process sees the records: not those in the memory of this one."""
        return not self.url.startswith("memory://")

    def __contains__(self, which: str | Setting) -> bool:
        key = _key(which)
        with self._naming("read"):
            return any(self._fs.exists(self._path(key, name)) for name in (record_file.RECORD, FAILED))

    def __iter__(self) -> Iterator[Record]:
        """Every record, by key."""
        for key in sorted(self.stamps()):
            record = self.get(key)
            if record is not None:
                yield record

    def get(self, which: str | Setting) -> Record | None:
        """The record of a setting or key, or None."""
        content = self._content(_key(which))
        return None if content is None else record_file.decode(content, None, str(self.root / _key(which)))

    def stamps(self) -> dict[str, str]:
        """Key of every record to a text that changes when its object does."""
        found: dict[str, str] = {}
        for path, about in self._listing().items():
            key, _, name = path.removeprefix(self._prefix + "/").partition("/")
            if name == record_file.RECORD or (name == FAILED and key not in found):
                found[key] = f"{name} " + " ".join(str(about[n]) for n in _CHANGING if n in about)
        return found

    def put(self, record: Record, files: Mapping[str, bytes] = {}, *, replace: bool = False) -> None:
        """Write a record and its files, unless there is one of the same setting already; see `Store.put`."""
        record_file.check_names(files)
        key, token = record.setting.key, uuid.uuid4().hex[:8]
        known = self.get(key)
        if known is not None and not (replace and known.outcome == "failed"):
            return
        names = {name: f"{token}.{name}" for name in files}
        content = record_file.encode(record, names)
        with self._naming("write"):
            self._fs.makedirs(self._path(key), exist_ok=True)
            for name, content_of_file in files.items():
                self._fs.pipe_file(self._path(key, names[name]), content_of_file)
            try:
                if record.outcome == "failed":
                    self._fs.pipe_file(self._path(key, FAILED), content)
                else:
                    self._fs.pipe_file(self._path(key, record_file.RECORD), content, mode="create")
            except FileExistsError:  # another writer was faster
                for name in names.values():
                    self._fs.rm_file(self._path(key, name))

    def write_document(self, folder: str, name: str, content: bytes) -> None:
        """Put an object that is no record under a folder; one of that name gives way."""
        with self._naming("write"):
            self._fs.makedirs(self._path(folder), exist_ok=True)
            self._fs.pipe_file(self._path(folder, name), content)

    def documents(self, folder: str) -> dict[str, bytes]:
        """Name to content of what `write_document` has put into a folder, by name."""
        with self._naming("read"):
            place = self._path(folder)
            self._fs.invalidate_cache(place)
            paths = sorted(self._fs.find(place)) if self._fs.exists(place) else []
            return {path.rpartition("/")[2]: self._fs.cat_file(path) for path in paths}

    def notes(self) -> bytes:
        """None: nothing can be added to an object."""
        return b""

    def drop_notes(self) -> None:
        """Nothing to forget."""

    def attachments(self, which: str | Setting) -> dict[str, bytes]:
        """Name to content of the files attached to a record."""
        key = _key(which)
        with self._naming("read"):
            return {name: self._fs.cat_file(self._path(key, at)) for name, at in self._names(key).items()}

    def file(self, which: str | Setting, name: str) -> Path:
        """Path of a local copy of a file attached to a record; it lasts as long as this object."""
        key = _key(which)
        names = self._names(key)
        if name not in names:
            raise StoreError(f"no file {name} in {self.root / key}")
        copy = Path(self._copies.name, key, name)
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            with self._naming("read"):
                copy.write_bytes(self._fs.cat_file(self._path(key, names[name])))
        return copy

    def scratch(self, key: str) -> Path:
        """Where a run that is not done keeps its checkpoint: on this machine."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return (
            cache
            / "mqbench"
            / "checkpoints"
            / hashlib.sha256(self.url.encode()).hexdigest()[:16]
            / f"{key}.pt"
        )

    def exists(self) -> bool:
        """Whether there is anything at the URL."""
        with self._naming("read"):
            return bool(self._fs.exists(self._prefix))

    def check_readable(self) -> None:
        """Raise ``StoreError`` unless there is something that can be listed."""
        if not self.exists():
            raise StoreError(f"there are no records at {self.root}; mqbench run makes them")

    def check_writable(self) -> None:
        """Raise ``StoreError`` unless a record could be written now; leaves nothing behind."""
        path = self._path(f".mqbench-{uuid.uuid4().hex[:8]}")
        with self._naming("write"):
            self._fs.makedirs(self._prefix, exist_ok=True)
            self._fs.pipe_file(path, b"mqbench")
            self._fs.rm_file(path)

    def clean(self) -> None:
        """Remove files that no record names and that are older than a day: their writer died."""
        paths = list(self._listing())
        for path in paths:
            key, _, name = path.removeprefix(self._prefix + "/").partition("/")
            if not KEY.fullmatch(key) or name in (record_file.RECORD, FAILED, *self._names(key).values()):
                continue
            with self._naming("write"):
                if time.time() - self._fs.modified(path).timestamp() > _DAY:
                    self._fs.rm_file(path)

    def read_cache(self, name: str) -> bytes | None:
        """What `write_cache` has left under a name, or None."""
        try:
            content: bytes = self._fs.cat_file(self._path(name))
        except OSError:
            return None
        return content

    def write_cache(self, name: str, content: bytes) -> None:
        """Leave something beside the records that can be made from them again; nothing where that fails."""
        try:
            self._fs.pipe_file(self._path(name), content)
        except OSError:  # a place of somebody else: the records are the truth anyway
            return

    @cached_property
    def _place(self) -> tuple[Any, str]:
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(str(self.root))
        except (ImportError, ValueError) as error:
            raise StoreError(f"cannot open the store {self.root}: {error}") from None
        return fs, path.rstrip("/")

    @property
    def _fs(self) -> Any:
        return self._place[0]

    @property
    def _prefix(self) -> str:
        return self._place[1]

    @cached_property
    def _copies(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="mqbench-")

    def _path(self, *names: str) -> str:
        return "/".join((self._prefix, *names))

    def _listing(self) -> dict[str, dict[str, Any]]:
        with self._naming("read"):
            if not self._fs.exists(self._prefix):
                raise StoreError(f"cannot read {self.root}: there is nothing")
            self._fs.invalidate_cache(self._prefix)
            found: dict[str, dict[str, Any]] = self._fs.find(self._prefix, detail=True)
        return found

    def _content(self, key: str) -> bytes | None:
        for name in (record_file.RECORD, FAILED):
            with self._naming("read"):
                try:
                    content: bytes = self._fs.cat_file(self._path(key, name))
                except FileNotFoundError:
                    continue
                return content
        return None

    def _names(self, key: str) -> dict[str, str]:
        content = self._content(key)
        return {} if content is None else record_file.names(content, str(self.root / key))

    @contextmanager
    def _naming(self, action: str) -> Iterator[None]:
        try:
            yield
        except (StoreError, FileExistsError):
            raise
        except OSError as error:
            raise StoreError(f"cannot {action} {self.root}: {error.strerror or error}") from error


def _key(which: str | Setting) -> str:
    return which if isinstance(which, str) else which.key
