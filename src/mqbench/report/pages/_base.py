"""What a page is: its place among the others, a template, and what the template is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mqbench.report.context import Context


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page.

    Args:
        title: of the page.
        menu: its name in the menu.
        order: in the menu, smallest first.
        template: file of ``templates/``, or a path.
        values: name to value, for the template.
        file: name in the site.
    """

    title: str
    menu: str
    order: int
    template: str
    values: Callable[[Context], Mapping[str, Any]]
    file: str
