"""The memory of a process that runs for weeks: what lives in it for good, and what was freed."""

from __future__ import annotations

import ctypes
import gc

# Events and answers hold no cycles: at the interpreter's default of 700 new objects a collection, a good part of the
# work of storing events is looking for some. Many more at a time, and one look takes longer than a reader should wait.
# A look at everything takes 50 ms with 100 readers, in which nobody is served, so it is made seldom.
YOUNG_OBJECTS = (20_000, 50, 100)


def settle() -> None:
    """What lives now lives as long as the process: the collector need not look at it again, nor often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*YOUNG_OBJECTS)


def give_back() -> None:
    """Where the C library can: glibc keeps freed pages that lie below used ones, for good, and after a burst of work
    that is a tenth of the daemon. Takes some milliseconds, in which no other thread gets memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
