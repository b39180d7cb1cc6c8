"""Pictures of an algorithm's forward map and gradient, as SVG or PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqbench.errors import RequestError
from mqbench.files import whole_file

if TYPE_CHECKING:
    from mqbench.response import Response

_INK = "#1f4e79"
_FAINT = "#b8bfc6"


def draw(responses: Sequence["Response"], path: Path) -> None:
    """Draw the forward map (beside y = x) and the gradient, one row for each response.

    Args:
        responses: of one algorithm.
        path: ends in ``.svg`` or ``.png``; its folder is made.

    Raises:
        RequestError: the drawing library is not installed, another ending, or a place that cannot be written.
    """
    if path.suffix not in (".svg", ".png"):
        raise RequestError(f"pictures are .svg or .png, got {path.name!r}")
    try:
        import altair  # optional: only pictures need it
    except ImportError:
        raise RequestError("pictures need altair: pip install 'mqbench[pictures]'") from None
    rows = [_row(altair, response) for response in responses]
    chart = altair.vconcat(*rows).configure_axis(grid=False).configure_view(stroke=None)
    scale = {"scale_factor": 2} if path.suffix == ".png" else {}
    with whole_file(path) as hand:
        chart.save(str(hand), format=path.suffix.removeprefix("."), **scale)


def _row(altair: Any, response: "Response") -> Any:
    samples = [
        {"x": x, "y": y, "slope": slope}
        for x, y, slope in zip(response.x, response.y, response.slope, strict=True)
    ]
    title = f"{response.algorithm}, {response.role}, {response.scheme.bits} bits"
    return altair.hconcat(
        _panel(altair, samples, "y", title, "output", diagonal=True),
        _panel(altair, samples, "slope", "gradient", "d output / d input", diagonal=False),
    )


def _panel(
    altair: Any, samples: list[dict[str, float]], field: str, title: str, axis: str, diagonal: bool
) -> Any:
    data = altair.Data(values=samples)
    x = altair.X("x:Q", title="input", scale=altair.Scale(nice=False))
    line = altair.Chart(data, title=title, width=280, height=180).mark_line(color=_INK, strokeWidth=2)
    line = line.encode(x=x, y=altair.Y(f"{field}:Q", title=axis), order="x:Q")
    if not diagonal:
        return line
    identity = altair.Chart(data).mark_line(color=_FAINT, strokeDash=[4, 3]).encode(x=x, y=altair.Y("x:Q"))
    return identity + line
