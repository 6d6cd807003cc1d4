"""What lives in a daemon's memory, told by the daemon itself when it gets a signal.

Resident memory does not tell a leak from a peak: both allocators keep much of what was freed wherever a page still has
one thing in use, so it follows the largest burst so far. What is in use has no such memory of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support import eventually

_SIGNAL = signal.SIGUSR1
_LOOKS = 5


class Heap(NamedTuple):
    """``mb``: in use of the C library's memory, SQLite's and texts of over 512 bytes among it; ``objects``: blocks in
    use of Python's own allocator, about one for each smaller object."""

    mb: float
    objects: int

    def since(self, before: Heap) -> Heap:
        return Heap(self.mb - before.mb, self.objects - before.objects)


class _MallInfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later (mallinfo(3)). Bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks"),
            "keepcost",
        )
    ]


def read() -> Heap:
    """Of this process."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo2
    gc.collect()
    told = mallinfo2()
    return Heap((told.uordblks + told.hblkhd) / 1e6, sys.getallocatedblocks())


def tell_on_signal(file: Path) -> None:
    """In the daemon: at each signal, write what ``ask`` reads. Its event loop stands still meanwhile."""

    def tell(*_: object) -> None:
        whole = file.with_suffix(".part")
        whole.write_text(json.dumps(read()))
        whole.rename(file)

    signal.signal(_SIGNAL, tell)


async def ask(pid: int, file: Path) -> Heap:
    """Of that daemon, at its quietest of a few looks: some moments hold an answer or a page of a query as well."""
    looks = []
    for _ in range(_LOOKS):
        file.unlink(missing_ok=True)
        os.kill(pid, _SIGNAL)
        await eventually(file.exists, 30, f"{file.name} from {pid}")
        looks.append(Heap(*json.loads(file.read_text())))
        await asyncio.sleep(0.2)
    return Heap(min(look.mb for look in looks), min(look.objects for look in looks))
