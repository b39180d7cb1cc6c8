"""Files that appear as a whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mqbench.errors import RequestError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary sibling to write to, which becomes ``path`` at the end, or is removed after an error.

    Raises:
        RequestError: the folder cannot be written to.
    """
    final = Path(path)
    sibling = final.with_name(f".{final.name}.{secrets.token_hex(4)}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield sibling
        os.replace(sibling, final)
    except OSError as error:
        raise RequestError(f"cannot write {final}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            sibling.unlink(missing_ok=True)
