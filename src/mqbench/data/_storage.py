"""Where images are stored: what every kind of storage gives, and the library that reads them."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from mqbench.errors import RequestError

Tables = Mapping[str, Any]  # split name -> datasets.Dataset


class Source(Protocol):
    """A dataset as it is stored."""

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
            RequestError: the library that reads them is missing, or there is no network.
            DataError: damaged files.
        """
        ...


@contextmanager
def datasets_library() -> Iterator[Any]:
    """Hugging Face ``datasets``, imported when it is needed and without its progress bars.

    Raises:
        RequestError: it is not installed.
    """
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        raise RequestError("this dataset needs datasets: pip install 'mqbench[vision]'") from None
    shown = not library.utils.are_progress_bars_disabled()
    library.disable_progress_bars()  # they would run into the display of `mqbench run`
    try:
        yield library
    finally:
        if shown:
            library.enable_progress_bars()
