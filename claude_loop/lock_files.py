"""Lock files: what a lock's file is called, how it is claimed, withdrawn, looked at and swept.

The kernel's lock (``flock``) on the file is the truth; the content only tells people who holds it. One kind of mistake
would let two processes hold one name, each with the lock on a different file, so three rules prevent it:

* a lock file is unlinked only by a process that holds the lock on it;
* a lock counts only if the path still names the file that was locked: otherwise somebody unlinked it between our
  opening and locking it, others meet at a new file, and we start again;
* a file is never truncated or written before its lock is held.

Standard library and ``errors`` only, for quick commands.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

from claude_loop.errors import LockError

SUFFIX = ".lock"
_MAX_STEM = 200  # file systems take 255 bytes a name
_FIRST = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_LATER = _FIRST | frozenset(b".-")
_MAX_METADATA = 1 << 20
_TRIES = 100  # each failed one means that another process got on, so more are a sign of a strange file system
_LOOKING_SECONDS = 1.0  # an instant that a busy machine has drawn out; who looks longer is a stopped process
_NO_FILE = "it is not a regular file"
_PRIVATE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # no planted link, no inheritance, no waiting for a pipe


class LockInfo(NamedTuple):
    """A lock file. ``state`` is the kernel's word; ``pid``, ``host`` and ``since`` are what the file claims.

    ``stale``: left behind by a process that was killed; the next one who wants the lock has it at once.
    ``unknown``: the file cannot be opened, or is none; ``reason`` says why, and why a lock that is held says nothing.
    """

    name: str
    state: Literal["held", "stale", "unknown"]
    pid: int | None
    host: str | None
    since: str | None
    file: Path
    reason: str | None = None


def lock_file_name(lock_name: str) -> str:
    """The file name of a lock: different for different names, and never a path.

    Bytes outside letters, digits and ``_.-`` are written ``%2F``; what would be too long ends in a hash.
    On a file system that ignores case, names that differ only in case are one lock.

        >>> lock_file_name("PRD-001"), lock_file_name("../x"), lock_file_name("")
        ('PRD-001.lock', '%2E.%2Fx.lock', '%.lock')
    """
    raw = lock_name.encode("utf-8", "surrogatepass")
    kept = [chr(byte) if byte in (_LATER if place else _FIRST) else f"%{byte:02X}" for place, byte in enumerate(raw)]
    stem = "".join(kept) or "%"
    if len(stem) > _MAX_STEM:
        stem = f"{stem[:100]}%-{blake2b(raw, digest_size=20).hexdigest()}"
    return stem + SUFFIX


def claim(path: Path, lock_name: str) -> int | None:
    """A descriptor of ``path`` that holds its lock; None while somebody else has it.

    Raises ``LockError`` when the file cannot be used: no permission, a full disk, a planted symbolic link.
    """
    try:
        for _ in range(_TRIES):
            descriptor = _open_or_create(path)
            ours = False
            try:
                if not _lock(descriptor):
                    return None
                if _still_named(path, descriptor):
                    _describe(descriptor, lock_name)
                    ours = True
                    return descriptor
            finally:
                if not ours:
                    os.close(descriptor)
    except OSError as failure:
        raise _unusable(path, failure) from failure
    return None


def withdraw(path: Path, descriptor: int) -> None:
    """Give a claimed lock back: unlink, then unlock. The other order would unlink the file of the next holder."""
    try:
        # A file that cannot be removed is no reason to stay locked: it is stale, and `locks` shows it.
        with suppress(OSError):
            if _still_named(path, descriptor):
                os.unlink(path)
        # Closing alone would not free a file that stays: a program that was given the descriptor has it open too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def sweep(path: Path, max_age: float) -> bool:
    """Unlink a lock file that nobody holds and that was last taken ``max_age`` seconds ago or earlier."""
    descriptor = _open_existing(path, os.O_RDWR)
    if descriptor is None:
        return False
    try:
        if (
            _metadata(descriptor) is None
            or not _flock(descriptor, fcntl.LOCK_EX)
            or time.time() - os.fstat(descriptor).st_mtime < max_age
            or not _still_named(path, descriptor)
        ):
            return False
        os.unlink(path)
    except FileNotFoundError:
        return False  # removed by hand at this instant
    except OSError as failure:
        raise _unusable(path, failure) from failure
    finally:
        os.close(descriptor)
    return True


def look(path: Path) -> LockInfo | None:
    """What a lock file says, and whether it is held; None for what is no lock file (any more)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _PRIVATE)
    except FileNotFoundError:
        return None
    except OSError as failure:
        return _unknown(path, _reason(failure))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return _unknown(path, _NO_FILE)
        # Shared, so that those who want the lock can tell a look from a holder: see `_lock`.
        held = not _flock(descriptor, fcntl.LOCK_SH)
        metadata = _metadata(descriptor)
        if not held and (metadata is None or not _still_named(path, descriptor)):
            return None
    except OSError as failure:
        return _unknown(path, _reason(failure))
    finally:
        os.close(descriptor)
    reason = None if metadata is not None else "its content is not a lock's"
    metadata = metadata or {}
    pid, host, since = (metadata.get(key) for key in ("pid", "host", "acquired_at"))
    return LockInfo(
        _name_of(path, metadata),
        "held" if held else "stale",
        pid if type(pid) is int else None,
        host if isinstance(host, str) else None,
        since if isinstance(since, str) else None,
        path,
        reason,
    )


def has_ended(info: LockInfo) -> bool:
    """Whether the process that took the lock is known to be gone: then something it has started holds it."""
    if info.pid is None or info.host != os.uname().nodename:
        return False
    with suppress(PermissionError, OverflowError):
        try:
            os.kill(info.pid, 0)
        except ProcessLookupError:
            return True
    return False


def _unknown(path: Path, reason: str) -> LockInfo:
    return LockInfo(_name_of(path, {}), "unknown", None, None, None, path, reason)


def lock_files(directory: Path) -> Iterator[Path]:
    """Everything in ``directory`` that is named like a lock file, in order of file names."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    except OSError as failure:
        raise _unusable(directory, failure) from failure
    yield from (directory / name for name in names if name.endswith(SUFFIX))


def shown(text: str) -> str:
    """``text`` without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _open_or_create(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _PRIVATE, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _PRIVATE, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NO_FILE)
    return descriptor


def _open_existing(path: Path, mode: int) -> int | None:
    """None for what is gone, no file, a link, or another user's."""
    try:
        return os.open(path, mode | _PRIVATE)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES, errno.EISDIR, errno.ENXIO):
            return None
        raise _unusable(path, failure) from failure


def _lock(descriptor: int) -> bool:
    """Try for the exclusive lock. Those who only look hold it shared for an instant, and count as nobody."""
    deadline = time.monotonic() + _LOOKING_SECONDS
    while not _flock(descriptor, fcntl.LOCK_EX):
        if not _flock(descriptor, fcntl.LOCK_SH):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0001)
    return True


def _flock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_named(path: Path, descriptor: int) -> bool:
    """Whether ``path`` names the file behind ``descriptor``."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _describe(descriptor: int, lock_name: str) -> None:
    """Say who holds the lock. Emptied first, so that a full disk leaves no wrong name behind."""
    acquired_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    metadata = {"pid": os.getpid(), "host": os.uname().nodename, "acquired_at": acquired_at, "lock_name": lock_name}
    if os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, 0)
    with suppress(OSError):  # the lock is held all the same
        os.pwrite(descriptor, json.dumps(metadata).encode() + b"\n", 0)


def _metadata(descriptor: int) -> dict[str, Any] | None:
    """The content: empty after a kill during creation, None if it is not ours. Many tools name files ``*.lock``."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    content = os.pread(descriptor, _MAX_METADATA, 0)
    if not content:
        return {}
    try:
        metadata = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return metadata if isinstance(metadata, dict) and "lock_name" in metadata else None


def _name_of(path: Path, metadata: dict[str, Any]) -> str:
    """The lock's name from the file name; from the metadata where the file name has only a hash."""
    claimed = metadata.get("lock_name")
    if isinstance(claimed, str) and lock_file_name(claimed) == path.name:
        return claimed
    stem = path.name.removesuffix(SUFFIX)
    if stem == "%":
        return ""
    raw = re.sub(rb"%([0-9A-F]{2})", lambda escape: bytes([int(escape[1], 16)]), os.fsencode(stem))
    try:
        name = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return stem
    return name if lock_file_name(name) == path.name else stem


def _reason(failure: OSError) -> str:
    if failure.errno == errno.ELOOP:
        return "it is a symbolic link"
    return _NO_FILE if failure.errno == errno.ENXIO else failure.strerror or str(failure)


def _unusable(path: Path, failure: OSError) -> LockError:
    return LockError(
        f"{shown(str(path))} cannot be used for a lock: {_reason(failure)}.",
        hint="CLAUDE_LOOP_LOCKS_DIR names the directory of the lock files.",
    )
