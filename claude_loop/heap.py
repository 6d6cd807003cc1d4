"""The C library's heap: what was freed in it, back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Where the C library can: glibc keeps freed pages that lie below used ones, for good, and after a burst of work
    that is a tenth of the daemon. Takes some milliseconds, in which no other thread gets memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
