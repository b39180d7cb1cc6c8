"""A claim of the paper's text beside what its tables give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mqbench.metrics import accuracy
from mqbench.paper import tables
from mqbench.record import Record

Verdict = Literal["reproduced", "partly", "not reproduced", "undecidable"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One claim.

    Args:
        section: of the paper, e.g. ``5.4``.
        claim: in our words, with the printed number.
        printed, recomputed: the value in the text, and from the tables.
        verdict: ``reproduced`` within the printed digits; ``partly``: all but what the note says;
            ``not reproduced``; ``undecidable`` where the tables that we have do not hold what it needs.
        table: where it was recomputed from, e.g. ``7``.
        note: what is off, or how ties were counted.
    """

    section: str
    claim: str
    printed: str
    recomputed: str
    verdict: Verdict
    table: str
    note: str = ""


@cache
def table(number: int) -> tuple[Record, ...]:
    """The records of a table."""
    return tuple(tables.records(number))


def value(record: Record) -> float:
    """Its accuracy, NC as 0."""
    found = accuracy(record)
    assert found is not None
    return found


def accuracies(number: int, *fields: str) -> dict[tuple[object, ...], float]:
    """Accuracy, NC as 0, by the values of these fields of the setting."""
    return {tuple(getattr(r.setting, f) for f in fields): value(r) for r in table(number)}


def close(printed: float, recomputed: float, digits: int) -> bool:
    """The recomputed value rounds to the printed one, half either way allowed."""
    return abs(printed - recomputed) <= 0.5 * 10**-digits + 1e-9


def same(printed: Sequence[float], recomputed: Sequence[float], digits: int = 1) -> Verdict:
    """Reproduced if every value is close."""
    pairs = zip(printed, recomputed, strict=True)
    return "reproduced" if all(close(a, b, digits) for a, b in pairs) else "not reproduced"


def holds(condition: bool) -> Verdict:
    """Reproduced or not."""
    return "reproduced" if condition else "not reproduced"


def best(values: Mapping[str, float]) -> list[str]:
    """The names that share the largest value."""
    return [name for name, value in values.items() if value >= max(values.values()) - 1e-9]


def joined(values: Sequence[float], digits: int = 1) -> str:
    """Numbers as the paper would print them."""
    return ", ".join(f"{value:.{digits}f}" for value in values)
