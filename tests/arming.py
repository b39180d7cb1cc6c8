"""A process that gets a signal at a place of its work."""

import os
import signal
from collections.abc import Callable
from importlib import import_module
from itertools import count
from typing import Any


def arm(target: str, calls: int, done: bool, sent: int = signal.SIGKILL) -> None:
    """Make this process get a signal at a call of a function, before or after what it does."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner: Any = import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    real: Callable[..., Any] = getattr(owner, name)
    number = count(1)

    def armed(*arguments: Any, **options: Any) -> Any:
        last = next(number) == calls
        if last and not done:
            os.kill(os.getpid(), sent)
        result = real(*arguments, **options)
        if last:
            os.kill(os.getpid(), sent)
        return result

    setattr(owner, name, armed)
