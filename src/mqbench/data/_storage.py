"""Where images are stored: what every kind of storage gives, and the library that reads them."""

import importlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from mqbench.errors import RequestError

_LIBRARIES = ("datasets", "torchvision")  # Pillow and pyarrow come with them
Tables = Mapping[str, Any]  # split name -> datasets.Dataset


class Source(Protocol):
    """A dataset as it is stored.

    Attributes:
        local: its files are here, so that its columns and labels can be looked at for nothing.
    """

    local: ClassVar[bool]

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def check(self) -> None:
        """Raise ``RequestError`` if it is not there; reads no image."""
        ...

    def fingerprint(self) -> str:
        """Hash of what is stored: cheap, and equal wherever the same files lie."""
        ...

    def tables(self) -> Tables:
        """The stored splits.

        Raises:
            RequestError: they are on the hub, and there is no network.
            DataError: damaged files.
        """
        ...


def check_libraries() -> None:
    """Raise ``RequestError`` unless what reads and transforms images is installed; imports none of it."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise RequestError(f"this dataset needs {' and '.join(missing)}: pip install 'mqbench[vision]'")


@contextmanager
def datasets_library() -> Iterator[Any]:
    """Hugging Face ``datasets``, imported when it is needed, without its progress bars and messages."""
    library: Any = importlib.import_module("datasets")
    shown = not library.utils.are_progress_bars_disabled()
    said = library.logging.get_verbosity()
    library.disable_progress_bars()  # they would run into the display of `mqbench run`
    library.logging.set_verbosity(logging.CRITICAL)  # what it logs about a damaged file, the error says
    try:
        yield library
    finally:
        library.logging.set_verbosity(said)
        if shown:
            library.enable_progress_bars()
