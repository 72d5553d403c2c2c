"""The memory of this machine, for limits of numbers that a caller asks for."""

from __future__ import annotations

import os


def memory() -> int:
    """Return the bytes of this machine's memory, or 16 GiB if the system does not tell.

    >>> memory() > 0
    True
    """
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**34
