"""The errors that users meet: each says what was got, what is allowed, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import ValidationError


class MQBenchError(Exception):
    """Base of every error that this package raises on purpose."""


class RequestError(MQBenchError, ValueError):
    """The request cannot be carried out as worded (exit code 2)."""


class UnknownNameError(RequestError, KeyError):
    """A name that is not in a catalog; the message lists those that are."""

    def __init__(self, kind: str, name: object, allowed: Iterable[str]) -> None:
        names = sorted(allowed)
        near = get_close_matches(str(name), names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        super().__init__(f"unknown {kind} {name!r}{hint}; allowed: {', '.join(names)}")

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return str(self.args[0])


class IncompatibleError(RequestError):
    """Choices that cannot work together, refused before any compute is spent."""


class CaptureError(RequestError):
    """A model that cannot be captured as a graph; the message names the line at fault."""


class CalibrationError(MQBenchError, ValueError):
    """Quantizer parameters cannot be set: no data, or data that is not finite."""


class RunFailedError(MQBenchError):
    """A request that was sound, and whose run came to nothing (exit code 1): a training that did not converge."""


class StoreError(MQBenchError, OSError):
    """A record store that cannot be read or written."""


class UnwritableError(StoreError):
    """A store that cannot be written, as on a full disk: what is computed further would be lost."""


class DataError(MQBenchError, ValueError):
    """Stored images or labels that cannot be read; the message names the file or the row."""


def explain(error: ValidationError) -> str:
    """One sentence on the first thing that is wrong."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    where = "".join(f"{part}: " for part in first["loc"] if isinstance(part, str) and part != "axes")
    if first["type"] == "value_error":
        return where + message
    return f"{where}{message[:1].lower()}{message[1:]}, got {first['input']!r}"
