"""Linux's inotify through ctypes: which files changed, by name, within a millisecond of the write."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

MODIFY = 0x2
MOVED_TO = 0x80
CREATE = 0x100
_Q_OVERFLOW = 0x4000
_IGNORED = 0x8000
_ONLYDIR = 0x1000000
_HEADER = struct.Struct("iIII")
_BUFFER = 65_536


class Changes(NamedTuple):
    """Names per watched directory since the last call; ``complete`` is False when the kernel's queue ran over
    or a directory went away, so that only looking at everything tells."""

    names: dict[str, set[str]]
    complete: bool


class Inotify:
    """Watches directories. Raises ``OSError`` where the system has no inotify or no watches left."""

    def __init__(self) -> None:
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise OSError(errno.ENOSYS, "no inotify on this system") from None
        if descriptor < 0:
            raise _last_error("inotify_init1")
        self.descriptor: int = descriptor
        self._directories: dict[int, str] = {}

    def watch(self, directory: str, mask: int) -> None:
        """Raises ``OSError``."""
        number = self._libc.inotify_add_watch(self.descriptor, os.fsencode(directory), mask | _ONLYDIR)
        if number < 0:
            raise _last_error(directory)
        self._directories[number] = directory

    def read(self) -> Changes:
        """What happened since the last call; never waits."""
        changes = Changes({}, complete=True)
        while True:
            try:
                buffer = os.read(self.descriptor, _BUFFER)
            except BlockingIOError:
                return changes
            changes = self._parse(buffer, changes)

    def _parse(self, buffer: bytes, changes: Changes) -> Changes:
        names, complete = changes
        at = 0
        while at < len(buffer):
            watch, mask, _, length = _HEADER.unpack_from(buffer, at)
            at += _HEADER.size
            if mask & _IGNORED:
                self._directories.pop(watch, None)
            if mask & (_Q_OVERFLOW | _IGNORED):
                complete = False
            directory = self._directories.get(watch)
            if directory is not None and length:
                name = os.fsdecode(buffer[at : at + length].rstrip(b"\0"))
                names.setdefault(directory, set()).add(name)
            at += length
        return Changes(names, complete)

    def close(self) -> None:
        os.close(self.descriptor)


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
