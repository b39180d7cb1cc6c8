"""Templates, style and script of all pages, in one environment that lets nothing in from elsewhere."""

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import Any

from mqbench.report.charts.svg import SHAPES

HERE = Path(__file__).parent


def environment(**shared: Any) -> Any:
    """A jinja2 environment.

    Args:
        shared: what every page is given besides: ``menu``, ``about``, ``foot``, ``live``, ``store``.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader([HERE / "templates", "/"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (HERE / "assets" / "report.css").read_text(encoding="utf-8") + SHAPES
    script = (HERE / "assets" / "report.js").read_text(encoding="utf-8")
    allowed = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made.globals.update(
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'",
        run=False,
        up="",
        **shared,
    )
    return made
