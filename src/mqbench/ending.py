"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it has begun is cleaned up, and it says so."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(KeyboardInterrupt):
    """The process was told to end by signal ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def told_to_end() -> Iterator[None]:
    """Inside, the signals raise `Ended`, unless somebody else handles or ignores them (``nohup``)."""
    own = [n for n in _SIGNALS if current_thread() is main_thread() and signal.getsignal(n) == signal.SIG_DFL]
    for number in own:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)
