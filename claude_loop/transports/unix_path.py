"""Unix sockets below long paths. Standard library only, for quick commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_loop.errors import UnsafeHome

# sun_path has 108 bytes on Linux and 104 on macOS, its final zero included.
_LONGEST = 103


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket address, for ``bind`` and ``connect`` while the block lasts.

    Raises ``UnsafeHome`` where a long path cannot be shortened, and ``OSError`` when its directory cannot be opened.
    """
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    if sys.platform != "linux":
        raise UnsafeHome(f"{path} is too long for a socket.", hint="Point CLAUDE_LOOP_HOME to a shorter path.")
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
