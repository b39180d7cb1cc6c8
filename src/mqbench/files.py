"""Files that appear as a whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mqbench.errors import RequestError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary sibling to write to, which becomes ``path`` at the end, or is removed after an error.

    A device or a pipe is written to as it is, and a link stays: a file in its place would be of no use to whoever
    reads there.

    Raises:
        RequestError: the file or its folder cannot be written.
    """
    try:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            yield Path(path)
            return
        final = Path(os.path.realpath(path))
        final.parent.mkdir(parents=True, exist_ok=True)
        sibling = final.with_name(f".{final.name}.{secrets.token_hex(4)}")
        try:
            yield sibling
            os.replace(sibling, final)
        finally:
            with suppress(OSError):
                sibling.unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror or error}") from error


def check_new_folder(folder: str | Path) -> None:
    """Look at once whether a folder can be made that is not there yet, or is empty; leaves nothing behind.

    Raises:
        RequestError: there is something in it, or it cannot be written.
    """
    path = Path(folder)
    try:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise RequestError(f"{path} exists already and is not empty; give another folder")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from None
    check_folder(path)


def check_folder(folder: str | Path) -> None:
    """Look at once whether files can be put into a folder, which may not be there yet; leaves nothing behind.

    Raises:
        RequestError: they cannot.
    """
    path = Path(folder)
    place = next(near for near in (path.absolute(), *path.absolute().parents) if near.exists())
    try:
        with TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror or error}") from None
