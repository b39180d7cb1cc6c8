"""Whether another process of this machine is at work."""

import os
from pathlib import Path


def lives(pid: int) -> bool:
    """Whether there is such a process, of whatever user; one that has ended and was not waited for does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    try:
        state = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[0]
        )
    except (OSError, IndexError):  # not Linux
        return True
    return state not in ("Z", "X")
