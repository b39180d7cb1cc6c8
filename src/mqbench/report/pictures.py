"""The pictures of a figure as files."""

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from mqbench.errors import RequestError
from mqbench.report.charts.svg import standalone
from mqbench.report.picture import Picture

_LONGEST = 150  # characters of a name; file systems take 255 bytes


def write(pictures: Iterable[Picture], folder: Path, name: str) -> Iterator[Path]:
    """Write each picture to ``folder/NAME-TITLE.svg`` and give its path; a file is there as a whole or not at all.

    Raises:
        RequestError: the folder cannot be written.
    """
    taken: set[str] = set()
    for picture in pictures:
        stem = f"{name}-{picture.slug}"[:_LONGEST]
        while stem in taken:
            stem = f"{stem}-{len(taken)}"
        taken.add(stem)
        path = folder / f"{stem}.svg"
        hand = path.with_name(f".{stem}.{uuid.uuid4().hex[:8]}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            hand.write_text(standalone(picture.svg), encoding="utf-8")
            os.replace(hand, path)
        except OSError as error:
            hand.unlink(missing_ok=True)
            raise RequestError(f"cannot write {path}: {error.strerror or error}") from None
        yield path
