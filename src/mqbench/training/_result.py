"""What a training gave."""

from dataclasses import dataclass, field

from mqbench.record import CurvePoint
from mqbench.training import _divergence as divergence


@dataclass(frozen=True)
class Training:
    """What a training gave.

    Args:
        curve: a point for each epoch.
        not_converged: why it counts as not converged, None if it converged.
        kind: which of the kinds of `divergence.KINDS` that is.
        files: name to content of the diagnostics (paper appendix B).
    """

    curve: tuple[CurvePoint, ...]
    not_converged: str | None = None
    kind: divergence.Kind | None = None
    files: dict[str, bytes] = field(default_factory=dict, compare=False)
