"""A picture with the numbers that it was drawn from."""

import re
from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture.

    Args:
        title: what it is of; unlike that of any other picture of its figure.
        svg: from `mqbench.report.charts`.
        note: how to read it, in a sentence or two.
        head: names of the columns of ``rows``.
        rows: the numbers; empty where they are too many to be read.
    """

    title: str
    svg: str
    note: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()

    @property
    def slug(self) -> str:
        """The title as the name of a file.

        >>> Picture(title="Test accuracy: lsq, w4a4", svg="").slug
        'test-accuracy-lsq-w4a4'
        """
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
