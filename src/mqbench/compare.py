"""Whether two records of one setting say the same."""

from dataclasses import dataclass

from mqbench.record import Record

NUMBERS = ("accuracy", "float_accuracy", "calibrated_accuracy", "agreement")


@dataclass(frozen=True)
class Difference:
    """One field in which two records differ, and by how many points if it is an accuracy."""

    field: str
    first: float | int | str | None
    second: float | int | str | None

    @property
    def points(self) -> float | None:
        """Absolute difference of two accuracies; None of anything else."""
        if isinstance(self.first, float) and isinstance(self.second, float):
            return abs(self.first - self.second)
        return None

    def __str__(self) -> str:
        return f"{self.field} {_text(self.first)} and {_text(self.second)}"


def differences(first: Record, second: Record) -> list[Difference]:
    """The outcome, the accuracies and the curve's test accuracies that differ at all.

    When, where and with what a record was made, and how a failure was worded, do not count.
    """
    names = ("outcome", *NUMBERS, "nc_kind")
    found = [
        Difference(name, getattr(first, name), getattr(second, name))
        for name in names
        if getattr(first, name) != getattr(second, name)
    ]
    if len(first.curve) != len(second.curve):
        found.append(Difference("epochs", len(first.curve), len(second.curve)))
    for a, b in zip(first.curve, second.curve, strict=False):
        if a.test_accuracy != b.test_accuracy:
            found.append(Difference(f"test accuracy of epoch {a.epoch}", a.test_accuracy, b.test_accuracy))
    return found


def beyond(found: list[Difference], tolerance: float) -> list[Difference]:
    """Those that are no numbers, or apart by more points than the tolerance."""
    return [d for d in found if d.points is None or d.points > tolerance]


def _text(value: float | str | None) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
