"""What writers of a large store note down, so that its index need not open every record.

A note is one line of JSON: the record's row of the frame, and the stamp of its file. As in the index, a row counts
only while the stamp is the file's, so a note that is lost, cut short or about a record that lost a race does no
harm. Small stores have no notes: they are read as fast without.
"""

import json
import os
import socket
from pathlib import Path

from mqbench.columns import row, version
from mqbench.record import Record

STAMP = "_stamp"
WORTHWHILE = 256  # records in a store before notes are taken


def stamp_of(status: os.stat_result) -> str:
    """A text that changes when a file does."""
    return f"{status.st_mtime_ns}.{status.st_size}.{status.st_ino}"


def note(root: Path, record: Record, stamp: str) -> None:
    """Add a line to the notes of this host; nothing where the store is small, or where that fails."""
    path = root / f"{_prefix()}{socket.gethostname()}.jsonl"
    # A folder's links are its subfolders and two; file systems that do not count them say 1.
    try:
        if root.stat().st_nlink <= WORTHWHILE + 2 and not path.exists():
            return
        line = json.dumps({**row(record), STAMP: stamp}, allow_nan=False) + "\n"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line.encode())  # in one call, so that lines of several writers do not mix
        finally:
            os.close(handle)
    except (OSError, ValueError):  # the record is there; its row will be read from it
        return


def take(root: Path) -> bytes:
    """All notes that this version of the package can read."""
    found = []
    for path in root.glob(f"{_prefix()}*.jsonl"):
        try:
            found.append(path.read_bytes())
        except OSError:  # another reader has put them into the index
            continue
    return b"\n".join(found)


def drop(root: Path) -> None:
    """Forget the notes; the index has them."""
    for path in root.glob(f"{_prefix()}*.jsonl"):
        path.unlink(missing_ok=True)


def _prefix() -> str:
    return f".notes-{version()}-"
