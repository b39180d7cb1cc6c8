"""What a figure is: a title, a text that says how to read it, and the pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mqbench.report.context import Context
from mqbench.report.picture import Picture


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure.

    Args:
        title: of its page.
        menu: its name in the menu.
        text: what is shown and where the paper has it; a paragraph.
        missing: what to run so that there is something to draw.
        order: of the page among the others; those of the overview and the tables are below 50.
        pictures: draws them, the most telling first, one after the other as they are asked for.
        shown: how many the page has at most; the command draws all.
    """

    title: str
    menu: str
    text: str
    missing: str
    order: int
    pictures: Callable[[Context], Iterator[Picture]]
    shown: int = 24
