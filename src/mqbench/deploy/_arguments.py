"""Arguments of a call in the form of ATen: of a graph's node, or of an operation of a program."""

from collections.abc import Mapping
from typing import Any, Protocol


class Call(Protocol):
    """What has arguments."""

    @property
    def args(self) -> tuple[Any, ...]:
        """By position."""
        ...

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """By name."""
        ...


def argument(call: Call, place: int, name: str, default: Any = None) -> Any:
    """An argument by position or by name."""
    return call.args[place] if len(call.args) > place else call.kwargs.get(name, default)


def each(value: Any, count: int) -> tuple[int, ...]:
    """One number a spatial axis, of one number or of one for each."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return tuple(int(n) for n in (numbers * count if len(numbers) == 1 else numbers))
