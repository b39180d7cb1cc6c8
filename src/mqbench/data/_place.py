"""Where data lies: the user's data folder, which is only read, and the cache."""

import os
from pathlib import Path

from mqbench.errors import RequestError

FOLDER = "MQBENCH_DATA"
CACHE = "MQBENCH_CACHE"


def data_folder(folder: str | None) -> Path | None:
    """The folder that was given, else the one that ``MQBENCH_DATA`` names, else None.

    Raises:
        RequestError: it is no folder.
    """
    named = folder or os.environ.get(FOLDER)
    if not named:
        return None
    path = Path(named).expanduser()
    if not path.is_dir():
        source = "the data folder" if folder else FOLDER
        raise RequestError(f"{source} must be an existing folder, got {named}")
    return path


def cache_folder() -> Path:
    """Where decoded images are kept: ``MQBENCH_CACHE``, else ``mqbench`` in the user's cache folder."""
    named = os.environ.get(CACHE)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mqbench"


def arrow_cache() -> str | None:
    """Where `datasets` keeps its arrow copies: below ``MQBENCH_CACHE``, else in its own cache (None)."""
    return str(cache_folder() / "datasets") if os.environ.get(CACHE) else None
