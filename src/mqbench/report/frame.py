"""What all pages stand in: one style, one script, the menu; and the templates."""

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mqbench
from mqbench.report.charts.svg import SHAPES

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The frame of the pages of one report.

    Args:
        menu: file and name of each page.
        store: where the records lie.
        live: seconds after which open pages load themselves again; None for a report that stays.
    """

    menu: tuple[tuple[str, str], ...]
    store: str
    live: int | None = None

    def render(self, template: str, **values: Any) -> str:
        """A page from its template, a file of ``templates/`` or a path."""
        return str(self._environment.get_template(template).render(**values))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).__dataclass_fields__}

    @cached_property
    def _environment(self) -> Any:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup

        environment = Environment(
            loader=FileSystemLoader([HERE / "templates", "/"]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        style = (HERE / "assets" / "report.css").read_text(encoding="utf-8") + SHAPES
        script = (HERE / "assets" / "report.js").read_text(encoding="utf-8")
        allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
        environment.globals.update(
            style=Markup(style),
            script=Markup(script),
            # nothing is ever loaded, and no script runs but ours
            policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'",
            menu=self.menu,
            live=self.live,
            run=False,
            up="",
            store=self.store,
            about=f"records of {Path(self.store).name or self.store}",
            foot=f"mqbench {mqbench.__version__}. No page of this report needs a network.",
        )
        return environment
