"""One daemon per home: the lock that says so, and the note that tells clients where it is.

The kernel lock on ``daemon.lock`` is the truth; ``daemon.json`` is a hint that a crash may leave behind.
Standard library only: quick commands import this.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

from claude_loop.errors import AlreadyRunning
from claude_loop.paths import Home, is_locked, open_private

# `is_running` holds the lock for an instant while it looks: one refusal proves nothing.
ACQUIRE_ATTEMPTS = 10
ACQUIRE_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class DaemonNote:
    """What ``daemon.json`` holds. ``version`` is that of the build, ``started_at`` is RFC 3339.

    ``arguments`` are those of the `serve` that it is; None where it is part of another program.
    """

    pid: int
    url: str
    version: str
    started_at: str
    arguments: tuple[str, ...] | None = None

    @classmethod
    def read(cls, home: Home) -> DaemonNote | None:
        """The note, or None when there is none that makes sense. It does not prove that a daemon runs."""
        if not home.daemon_json.is_file():  # a FIFO would be waited for
            return None
        try:
            raw: Any = json.loads(home.daemon_json.read_bytes())
            said = raw.get("arguments", ())  # those of before this was noted were nearly all a plain `serve`
            arguments = None if said is None else tuple(map(str, said))
            return cls(int(raw["pid"]), str(raw["url"]), str(raw["version"]), str(raw["started_at"]), arguments)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, home: Home) -> None:
        """Replace the note at once: a reader sees the old one or the new one, never half."""
        fresh = home.daemon_json.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        descriptor = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file)
        fresh.replace(home.daemon_json)


class InstanceLock:
    """Held for the life of a daemon; the kernel lets go of it however the process ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises ``AlreadyRunning`` naming the daemon that has it."""
        with contextlib.ExitStack() as stack:
            descriptor = open_private(self._home.daemon_lock, os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, descriptor)
            for attempt in range(ACQUIRE_ATTEMPTS):
                if attempt:
                    time.sleep(ACQUIRE_PAUSE)
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    stack.pop_all()
                    self._descriptor = descriptor
                    return
        note = DaemonNote.read(self._home)
        who = f" (pid {note.pid}, {note.url})" if note else ""
        raise AlreadyRunning(f"A daemon already runs on {self._home.root}{who}.")

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_running(home: Home) -> bool:
    """Whether some process holds the daemon's lock on this home."""
    return is_locked(home.daemon_lock)
