"""The pictures of a figure as files."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mqbench.files import whole_file
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
        with whole_file(path) as hand:
            hand.write_text(standalone(picture.svg), encoding="utf-8")
        yield path
