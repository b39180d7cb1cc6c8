"""A table of numbers with the larger ones in a stronger colour."""

from collections.abc import Mapping, Sequence

from mqbench.report.charts.svg import drawing, element, text

_STRONGEST = 0.5  # opacity at the largest value; text is read on all of them, in light and in dark
_CELL, _ROW, _HEAD = 84.0, 30.0, 26.0


def heat(
    values: Mapping[tuple[str, str], float],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    says: str,
    digits: int = 2,
) -> str:
    """A heat map; a cell without a value is empty."""
    left = 14.0 + 7.2 * max(map(len, rows), default=0)
    largest = max(values.values(), default=0.0) or 1.0
    parts = [
        text(name, left + (i + 0.5) * _CELL, 17.0, text_anchor="middle", class_="quiet")
        for i, name in enumerate(columns)
    ]
    for j, row in enumerate(rows):
        y = _HEAD + j * _ROW
        parts.append(text(row, left - 8, y + 20, text_anchor="end"))
        for i, column in enumerate(columns):
            value = values.get((row, column))
            x = left + i * _CELL
            strength = None if value is None else _STRONGEST * max(value, 0.0) / largest
            parts.append(
                element("rect", x=x + 1, y=y + 1, width=_CELL - 2, height=_ROW - 2, rx=3, class_="heat",
                        fill_opacity=0 if strength is None else strength)
            )  # fmt: skip
            shown = "-" if value is None else f"{value:.{digits}f}"
            parts.append(text(shown, x + _CELL / 2, y + 20, text_anchor="middle"))
    return drawing("".join(parts), left + len(columns) * _CELL + 6, _HEAD + len(rows) * _ROW + 6, says)
