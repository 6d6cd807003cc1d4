"""The spool's file operations, each one step: what a crash can fall between is what this module lists."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from typing import Literal

from claude_loop.paths import Home

Place = Literal["spool", "leaving"]
Writers = Literal["none", "some", "unknown"]


class Unreadable(Exception):
    """No regular file of our own that can be opened; ``str`` says why."""


class SpoolFiles:
    """The directories ``spool``, ``leaving``, ``flush`` and ``rejected`` of one home."""

    def __init__(self, home: Home) -> None:
        self._folders: dict[Place, str] = {"spool": str(home.spool), "leaving": str(home.leaving)}
        self._flush = str(home.flush)
        self._rejected = str(home.rejected)
        self._uid = os.geteuid()

    def path(self, place: Place, entry: str) -> str:
        return f"{self._folders[place]}/{entry}"

    def place_of(self, directory: str) -> Place | None:
        """Which of the two a directory is; None for ``flush``."""
        return next((place for place, folder in self._folders.items() if folder == directory), None)

    def names(self, place: Place) -> list[str]:
        """The entries of a directory. Raises ``OSError``."""
        return os.listdir(self._folders[place])

    def status(self, place: Place, entry: str) -> os.stat_result | None:
        """The status of the entry itself, or None when it is gone."""
        try:
            return os.lstat(self.path(place, entry))
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def opened(self, place: Place, entry: str) -> Iterator[tuple[int, os.stat_result]]:
        """A descriptor for reading. Raises ``Unreadable``, and ``FileNotFoundError`` when the file is gone."""
        # Without O_NONBLOCK the open of a FIFO would wait for its writer for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            descriptor = os.open(self.path(place, entry), flags)
        except FileNotFoundError:
            raise
        except OSError as failure:
            if failure.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise  # ours or the machine's trouble, not the file's
            what = "a symbolic link" if failure.errno == errno.ELOOP else (failure.strerror or "not readable")
            raise Unreadable(what) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not a regular file")
            if status.st_uid != self._uid:
                raise Unreadable(f"it belongs to uid {status.st_uid}")
            yield descriptor, status
        except OSError as failure:
            if failure.errno != errno.EIO:
                raise
            raise Unreadable("the disk cannot read it") from None
        finally:
            os.close(descriptor)

    def leave(self, name: str, leaving_name: str) -> None:
        """Move a file out of its emitter's reach. Raises ``OSError``: EXDEV if ``spool`` is a mount."""
        os.rename(self.path("spool", name), self.path("leaving", leaving_name))

    def writers(self, place: Place, entry: str) -> tuple[Writers, int]:
        """Whether anybody has the file open for writing, and its size, read after the answer.

        The kernel grants a read lease only when nobody has. ``unknown`` where it has no leases for this file.
        """
        with self.opened(place, entry) as (descriptor, _):
            return _writers(descriptor), os.fstat(descriptor).st_size

    def remove(self, place: Place, entry: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(place, entry))

    def set_aside(self, place: Place, entry: str, name: str, now_us: int) -> None:
        """Move what cannot be read to ``rejected``, as ``name`` behind the time. Raises ``OSError``."""
        safe = "".join(c if c.isprintable() and c.isascii() else "_" for c in name)[:200]
        os.rename(self.path(place, entry), f"{self._rejected}/{now_us}-{safe}")

    def flush_requests(self) -> list[str]:
        return os.listdir(self._flush)

    def flush_age(self, entry: str, now_us: int) -> float | None:
        """Seconds since a request was made, or None when it is gone."""
        try:
            return now_us / 1e6 - os.lstat(f"{self._flush}/{entry}").st_mtime
        except FileNotFoundError:
            return None

    def answer_flush(self, entry: str) -> None:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):  # withdrawn, or never one
            os.unlink(f"{self._flush}/{entry}")

    def leases_work(self) -> bool:
        """Whether the file system of ``leaving`` has leases, tried on a file of our own."""
        probe = f"{self._folders['leaving']}/.lease-{os.getpid()}"
        try:
            descriptor = os.open(probe, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            return _writers(descriptor) == "none"
        finally:
            os.close(descriptor)
            os.unlink(probe)


def _writers(descriptor: int) -> Writers:
    set_lease = getattr(fcntl, "F_SETLEASE", None)
    if set_lease is None:
        return "unknown"
    try:
        # An open for writing while we hold the lease would send SIGIO, which ends a process; SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, set_lease, fcntl.F_RDLCK)
    except OSError as failure:
        # EACCES is not about writers: it is the answer for another owner's file.
        return "some" if failure.errno == errno.EAGAIN else "unknown"
    # Only the answer was wanted: whoever could write is gone, and no path leads here any more.
    fcntl.fcntl(descriptor, set_lease, fcntl.F_UNLCK)
    return "none"


def is_alive(pid: int) -> bool:
    """Whether a process of this number exists here. In another pid namespace the answer may be about a stranger."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
