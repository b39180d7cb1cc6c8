"""Charts of the size of a word, for the rows of a table; made by the hundred thousand, so in few bytes.

The style sheet gives their size; their coordinates are small whole numbers that are stretched to it.
"""

from collections.abc import Sequence

HEIGHT = 28


def histogram(heights: Sequence[int], inside: tuple[float, float]) -> str:
    """Bars of equal width; the part that is clipped lies outside the marks.

    Args:
        heights: 0 to `HEIGHT`, one a bar.
        inside: the clipping range in bars, from the left end.
    """
    bars = "h1V".join([str(HEIGHT - height) for height in heights])
    marks = "".join([f"M{at:.1f} 0V{HEIGHT}" for at in inside if 0 <= at <= len(heights)])
    return _drawing(
        len(heights),
        f'<path class="s0 area" d="M0 {HEIGHT}V{bars}h1V{HEIGHT}z"/>'
        + (f'<path class="s1 mark" d="{marks}"/>' if marks else ""),
    )


def band(lows: Sequence[float], highs: Sequence[float]) -> str:
    """The range between two values over time, scaled to what it was at most; what never moved is a plain bar."""
    if len(lows) == 1:
        lows, highs = [*lows, *lows], [*highs, *highs]
    low, high = min(lows), max(highs)
    scale = (HEIGHT - 2) / (high - low) if high > low else 0.0
    top = 1.5 + high * scale
    there = "".join([f"L{x} {int(top - v * scale)}" for x, v in enumerate(highs)])
    back = "".join([f"L{x} {int(top - lows[x] * scale)}" for x in range(len(lows) - 1, -1, -1)])
    return _drawing(len(lows) - 1, f'<path class="s2 area" d="M{there[1:]}{back}z"/>')


def _drawing(width: int, body: str) -> str:
    box = f'viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none"'
    return f'<svg class="mini" {box} aria-hidden="true">{body}</svg>'
