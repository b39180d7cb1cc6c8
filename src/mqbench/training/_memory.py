"""Keeping freed memory in the process between training steps.

glibc gives memory back to the system whenever enough of it lies free at the end of its heap, and the next step takes
it again, zeroed, page by page: 5 to 12 % of the time of a step on a CPU. A training step frees what the next
one needs, so it is kept.
"""

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_TRIM, _MMAP = 2**31 - 1, 2**25  # the largest numbers that it takes


@cache
def keep_freed_memory() -> bool:
    """From now on in this process; whether the C library could be asked (glibc only)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _TRIM)) and bool(mallopt(_M_MMAP_THRESHOLD, _MMAP))
