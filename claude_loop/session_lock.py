"""File locks between processes, threads and tasks. Standard library only: importable without the rest.

    >>> with SessionLock("PRD-001", timeout=5) as lock:
    ...     SessionLock("PRD-001").acquire(blocking=False)
    False
    >>> lock.acquired
    False

A lock belongs to the object that acquired it and lives no longer than its process: forked children do not have it, and
programs that are started do not inherit it, unless they are given ``fileno()`` on purpose. What makes the lock
trustworthy is explained in ``lock_files``.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, Self, TypeVar, cast

from claude_loop.errors import LockError, LockTimeout
from claude_loop.lock_files import LockInfo, claim, has_ended, lock_file_name, lock_files, look, shown, sweep, withdraw

__all__ = [
    "LockError",
    "LockInfo",
    "LockTimeout",
    "SessionLock",
    "cleanup_stale_locks",
    "list_locks",
    "session_locked",
    "with_async_session_lock",
    "with_session_lock",
]

P = ParamSpec("P")
R = TypeVar("R")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05  # seconds; a waiter costs about 20 µs of CPU a look


class _ForkGuard:
    """What this process holds, so that a forked child gives up its copies.

    A descriptor copied by ``fork`` would keep the kernel's lock alive after its owner's death. This is a fact of the
    whole process, which is why the module has exactly one.
    """

    def __init__(self) -> None:
        # Also taken across a fork: no child may copy a descriptor that is locked but not yet listed here.
        self.guard = threading.RLock()
        self.held: set[SessionLock] = set()
        os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def _before(self) -> None:
        self.guard.acquire()

    def _in_parent(self) -> None:
        self.guard.release()

    def _in_child(self) -> None:
        self.guard = threading.RLock()
        for lock in self.held:
            lock._forget()  # noqa: SLF001 - one mechanism in two classes
        self.held.clear()


_process = _ForkGuard()


class _LocksDirectory:
    """The default of ``LOCKS_DIR``, read from the environment whenever it is asked for."""

    def __get__(self, instance: object, owner: type) -> Path:
        return Path(os.environ.get("CLAUDE_LOOP_LOCKS_DIR") or Path(".claude-loop", "locks"))


class SessionLock:
    """A lock named ``lock_name``, held by at most one ``SessionLock`` object on this machine at a time.

    ``timeout`` is in seconds: None (or infinity) waits for ever, 0 and less try once. The name may be any string;
    the lock file lies in ``locks_dir``, or else in ``SessionLock.LOCKS_DIR`` as it was when the object was made.

    ``with`` and ``async with`` acquire and release; nested in each other on one object, the outermost releases. A
    held lock that is dropped without ``release`` stays held until the process ends. Do not share one object between
    threads or tasks that should exclude each other: give each its own.

        >>> lock = SessionLock("a/b")
        >>> lock.acquire()
        True
        >>> lock.acquire(), lock.acquired, lock.lock_file.name
        (True, True, 'a%2Fb.lock')
        >>> lock.release()
        >>> lock.lock_file.exists()
        False

    Waiting raises ``LockTimeout`` at the timeout. Any attempt raises ``LockError`` when the lock file cannot be used:
    no permission, a full disk, a planted symbolic link.
    """

    LOCKS_DIR: ClassVar[Path] = cast("Path", _LocksDirectory())

    def __init__(
        self, lock_name: str, timeout: float | None = 300, *, locks_dir: str | os.PathLike[str] | None = None
    ) -> None:
        if timeout is not None and math.isnan(timeout):
            raise LockError("A timeout is a number of seconds, or None.")
        self.lock_name = lock_name
        self.timeout = timeout
        self.lock_file = _directory(locks_dir) / lock_file_name(lock_name)
        self._descriptor: int | None = None
        self._depth = 0

    @property
    def acquired(self) -> bool:
        """Whether this object holds the lock, in this process."""
        return self._descriptor is not None

    def acquire(self, blocking: bool = True) -> bool:  # noqa: FBT001, FBT002 - as in threading.Lock
        """True once the lock is held, at once if it already is. ``blocking=False`` tries once: True or False."""
        if not blocking:
            return self._attempt()
        for pause in self._attempts():
            time.sleep(pause)
        return True

    def release(self) -> None:
        """Remove the lock file and let the next one in. Releasing what is not held does nothing."""
        with _process.guard:
            if self._descriptor is not None:
                descriptor, self._descriptor = self._descriptor, None
                _process.held.discard(self)
                withdraw(self.lock_file, descriptor)

    def fileno(self) -> int:
        """The locked descriptor. A program that inherits it keeps the name locked should this process be killed.

        Raises ``LockError`` when the lock is not held.
        """
        if self._descriptor is None:
            raise LockError(f"Lock “{shown(self.lock_name)}” is not held.")
        return self._descriptor

    def __enter__(self) -> Self:
        self.acquire()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.release()

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 - tens of milliseconds that a lock in a shell loop should not cost

        for pause in self._attempts():
            await asyncio.sleep(pause)
        self._depth += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _attempts(self) -> Iterator[float]:
        """Try until the lock is had; yields how long to sleep before the next try."""
        start = time.monotonic()
        pause = _FIRST_PAUSE
        while not self._attempt():
            left = math.inf if self.timeout is None else start + self.timeout - time.monotonic()
            if left <= 0:
                raise LockTimeout(self._whose(time.monotonic() - start))
            yield min(pause, left)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _attempt(self) -> bool:
        with _process.guard:
            if self._descriptor is None:
                self._descriptor = claim(self.lock_file, self.lock_name)
                if self._descriptor is None:
                    return False
                _process.held.add(self)
            return True

    def _forget(self) -> None:
        """In a forked child: close the copy. Unlocking it would take the lock from the parent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _whose(self, waited: float) -> str:
        info = look(self.lock_file)
        holder = ""
        if info is not None and info.pid is not None:
            started = "what is left of the ended " if has_ended(info) else ""
            holder = f" by {started}pid {info.pid} on {shown(info.host or '?')} since {shown(info.since or '?')}"
        return f"Lock “{shown(self.lock_name)}” is held{holder}; waited {waited:.1f} s."

    def __repr__(self) -> str:
        return f"<SessionLock {self.lock_name!r} {'held' if self.acquired else 'not held'}>"


@contextmanager
def with_session_lock(lock_name: str, timeout: float | None = 300) -> Iterator[SessionLock]:
    """``with with_session_lock("PRD-001"):`` holds the lock inside the block."""
    with SessionLock(lock_name, timeout) as lock:
        yield lock


@asynccontextmanager
async def with_async_session_lock(
    lock_name: str,
    timeout: float | None = 300,  # noqa: ASYNC109 - a promised name; the timeout must leave the lock untouched
) -> AsyncIterator[SessionLock]:
    """As ``with_session_lock``, for ``async with``: waiting leaves the event loop free."""
    async with SessionLock(lock_name, timeout) as lock:
        yield lock


def session_locked(lock_name: str, timeout: float | None = 300) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Hold the lock during each call of the decorated function, sync or async.

        >>> @session_locked("release")
        ... def publish(version):
        ...     return f"published {version}"
        >>> publish("1.2")
        'published 1.2'

    Raises ``LockError`` for a generator, whose body would run after the lock is released.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise LockError(f"{function.__qualname__} is a generator: hold the lock inside it, using `with`.")

        @functools.wraps(function)
        def locked(*args: P.args, **kwargs: P.kwargs) -> R:
            with SessionLock(lock_name, timeout):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def async_locked(*args: P.args, **kwargs: P.kwargs) -> Any:
            async with SessionLock(lock_name, timeout):
                return await cast("Any", function(*args, **kwargs))

        return cast("Callable[P, R]", async_locked) if inspect.iscoroutinefunction(function) else locked

    return decorate


def list_locks(locks_dir: str | os.PathLike[str] | None = None) -> list[LockInfo]:
    """The locks in ``locks_dir`` (default ``SessionLock.LOCKS_DIR``).

    Looking disturbs nobody: it does not make an ``acquire(blocking=False)`` of others fail.

        >>> with SessionLock("PRD-001"):
        ...     [(info.name, info.state) for info in list_locks()]
        [('PRD-001', 'held')]
    """
    return [info for path in lock_files(_directory(locks_dir)) if (info := look(path)) is not None]


def cleanup_stale_locks(max_age_seconds: float = 3600, *, locks_dir: str | os.PathLike[str] | None = None) -> int:
    """Remove lock files that nobody holds and that were last taken at least ``max_age_seconds`` ago; how many went.

    Tidiness only: a stale file blocks nobody. A held lock is never touched, however old it is.

        >>> cleanup_stale_locks()
        0
    """
    return sum(sweep(path, max_age_seconds) for path in lock_files(_directory(locks_dir)))


def _directory(locks_dir: str | os.PathLike[str] | None) -> Path:
    # Absolute, so that a later chdir does not make `release` unlink another file.
    return Path(SessionLock.LOCKS_DIR if locks_dir is None else locks_dir).absolute()


def main(arguments: list[str] | None = None) -> int:
    """``python -m claude_loop.session_lock cleanup [--max-age SECONDS]``."""
    import argparse  # noqa: PLC0415 - nothing else here needs it

    parser = argparse.ArgumentParser(prog="python -m claude_loop.session_lock")
    commands = parser.add_subparsers(dest="command", required=True)
    cleanup = commands.add_parser("cleanup", help="remove lock files that nobody holds")
    cleanup.add_argument("--max-age", type=float, default=3600, metavar="SECONDS", help="default 3600")
    removed = cleanup_stale_locks(parser.parse_args(arguments).max_age)
    sys.stdout.write(f"removed {removed} stale lock file{'' if removed == 1 else 's'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
