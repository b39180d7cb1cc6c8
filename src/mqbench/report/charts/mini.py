"""Charts of the size of a word, for the rows of a table; made by the hundred thousand."""

from collections.abc import Sequence

WIDTH, HEIGHT = 96, 28


def histogram(heights: Sequence[int], inside: tuple[float, float]) -> str:
    """Bars of equal width; the part that is clipped lies outside the marks.

    Args:
        heights: 0 to `HEIGHT`, one a bar.
        inside: the clipping range in bars, from the left end.
    """
    step = WIDTH / len(heights)
    bars = "".join(f"V{HEIGHT - h}h{step:g}" for h in heights)
    marks = "".join(
        f'<path class="s1 whisker" d="M{at * step:.1f} 0V{HEIGHT}"/>' for at in inside if 0 <= at <= len(heights)
    )
    return (
        f'<svg class="mini" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<path class="s0 area" d="M0 {HEIGHT}{bars}V{HEIGHT}z"/>{marks}</svg>'
    )


def band(lows: Sequence[float], highs: Sequence[float]) -> str:
    """The range between two values over time, scaled to what it was at most; nothing moved is a plain bar."""
    low, high = min(lows), max(highs)
    scale = (HEIGHT - 2) / (high - low) if high > low else 0.0
    places = [WIDTH * i / max(len(lows) - 1, 1) for i in range(len(lows))]
    if len(lows) == 1:
        places, lows, highs = [0, WIDTH], [*lows, *lows], [*highs, *highs]
    there = "L".join(f"{x:.0f} {1 + (high - v) * scale:.1f}" for x, v in zip(places, highs, strict=True))
    back = "L".join(
        f"{x:.0f} {1 + (high - v) * scale:.1f}" for x, v in zip(reversed(places), reversed(lows), strict=True)
    )
    return (
        f'<svg class="mini" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<path class="s2 area" d="M{there}L{back}z"/></svg>'
    )
