"""What a sidecar is: a library's own public format, written from the program and checked against its schema."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mqbench.deploy.program import Program


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """One format; each file of this folder defines one as ``EXPORTER``.

    Args:
        suffix: of the file, which otherwise has the model's name: ``.encodings``.
        backends: names of the backends whose export writes it by itself.
        write: (program, path) -> None. The path is a temporary sibling; renaming it is the caller's.
        check: (program, path) -> None, raises `RequestError` saying what is wrong with a file.
        loader: a file of ``mqbench.deploy`` that runs the artifact by itself, copied beside it.
        extra: of this project, if it needs one: ``pip install 'mqbench[EXTRA]'``.
        source: where the format is documented.
        checked_by: how much the check is worth: "schema" (structure alone) or the tool that has read it.
    """

    suffix: str
    backends: tuple[str, ...]
    write: Callable[[Program, Path], None]
    check: Callable[[Program, Path], None]
    loader: str = ""
    extra: str = ""
    source: str = ""
    checked_by: str = "schema"
