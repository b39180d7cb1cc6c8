"""SVG as text: elements, numbers, and a drawing that says what it shows."""

from html import escape

STYLE = """
:root{--surface:#fff;--ink:#1b1f24;--muted:#59626e;--rule:#d5dae0;--heat:#d9480f;--band:#0b62a8;
--s0:#0b62a8;--s1:#c2410c;--s2:#0f7b4f;--s3:#8b3fa8;--s4:#8a5a00;--s5:#be185d;--s6:#0e7490;--s7:#525252}
@media (prefers-color-scheme:dark){:root{--surface:#14171c;--ink:#e8eaed;--muted:#a7afba;--rule:#3a414b;--heat:#ff8a4c;
--band:#6cb6ff;--s0:#6cb6ff;--s1:#ff9b63;--s2:#5bd19a;--s3:#d3a4f0;--s4:#e3bd5a;--s5:#ff8fb8;--s6:#5cc8dc;--s7:#b4b8bf}}
svg{background:var(--surface)}
"""
SHAPES = """
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}svg .quiet{fill:var(--muted)}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--muted);stroke-width:1}
.line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}.raw{opacity:.35;stroke-width:1}
.dot{fill:currentColor}.dots{stroke:currentColor;stroke-width:5;stroke-linecap:round}.ring{fill:none;stroke:currentColor;stroke-width:2}.whisker{stroke:currentColor;stroke-width:2}
.area{fill:currentColor;fill-opacity:.35;stroke:currentColor;stroke-width:.7}.heat{fill:var(--heat)}.band{color:var(--band)}
svg text.fine{font-size:10px}svg text.series{fill:currentColor;font-weight:600}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}
.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}.s7{color:var(--s7)}
"""
COLOURS = 8
# A series is told apart without its colour, too.
DASHES = ("", "7 3", "2 3", "9 3 2 3")


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel or better."""
    return f"{value:.4g}"


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """An element; ``class_`` is class, an underscore a hyphen, None leaves an attribute out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>" if content else f"<{name}{given}/>"


def text(content: object, x: float, y: float, **attributes: object) -> str:
    """Text with its anchor at a point."""
    return element("text", escape(str(content), quote=False), x=x, y=y, **attributes)


def hover(content: str) -> str:
    """What is said of an element that the pointer rests on."""
    return element("title", escape(content, quote=False))


def path(points: list[tuple[float, float]], **attributes: object) -> str:
    """A line through points."""
    return element("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), **attributes)


def drawing(body: str, width: float, height: float, says: str) -> str:
    """A whole drawing; ``says`` is read out in its place."""
    return element(
        "svg",
        body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=says,
    )


def standalone(svg: str) -> str:
    """The same as a file of its own, with its colours of light and dark."""
    head, _, rest = svg.partition(">")
    return f"{head}><style>{STYLE}{SHAPES}</style>{rest}\n"


def series(index: int) -> tuple[str, str | None]:
    """Class and dashes of the series of a number."""
    return f"s{index % COLOURS}", DASHES[(index // 2) % len(DASHES)] or None


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else escape(str(value))
