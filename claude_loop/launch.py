"""Starting and stopping the background daemon, safely when several ask at once."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from claude_loop import resources
from claude_loop.client import DaemonClient, ServerError
from claude_loop.errors import DaemonUnreachable
from claude_loop.instance import DaemonNote, is_running
from claude_loop.paths import Home, open_private
from claude_loop.systemd_units import start_unit, stop_units
from claude_loop.transports.unix_path import short_path

START_SECONDS = 15.0
# A start that is under way on a machine with much to do: longer than an answer of a daemon that runs may take.
COLD_START_SECONDS = 60.0
# A person who waits wonders after a while.
TELL_SECONDS = 4.0
STOP_SECONDS = 15.0
_KILL_SECONDS = 5.0
_HEALTH_SECONDS = 2.0
_NOTE_SECONDS = 2.0
_POLL_SECONDS = 0.01
# How long stopping waits for whoever starts the daemon right now, once there is a daemon: one that takes much longer to
# answer hangs, and stopping is what helps. Until there is one, nothing can be stopped: then it waits as starting does.
_TURN_SECONDS = 5.0
# One generation of log is enough to explain the last start.
MAX_LOG_BYTES = 10 * 1024 * 1024
# The service manager's words to whoever started us, and where its loop stands: neither is the daemon's.
_NOT_INHERITED = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} | {
    f"CLAUDE_LOOP_{name}" for name in ("PROJECT", "PRD", "STORY", "RUN", "SESSION", "URL", "TOKEN")
}

Stopped = Literal["stopped", "killed", "not running"]
# Hears what a person who waits for a start wants to know.
Tell = Callable[[str], None]


def _tell_nobody(words: str) -> None:
    del words


def ensure_running(home: Home, client: DaemonClient, tell: Tell = _tell_nobody) -> bool:
    """Start the daemon unless it runs, is elsewhere, or ``CLAUDE_LOOP_AUTOSTART=0``. True if it was started.

    Raises ``DaemonUnreachable``.
    """
    if client.is_elsewhere or os.environ.get("CLAUDE_LOOP_AUTOSTART") == "0" or answers(client):
        return False
    return start(home, client, tell=tell)


def answers(client: DaemonClient) -> bool:
    """Whether the daemon answers at all, healthy or not."""
    try:
        client.get("/health", timeout=_HEALTH_SECONDS)
    except ServerError:
        return True
    except DaemonUnreachable:
        return False
    return True


def start(home: Home, client: DaemonClient, arguments: tuple[str, ...] = (), tell: Tell = _tell_nobody) -> bool:
    """Start the daemon and wait until it answers; False if it already ran. Raises ``DaemonUnreachable``."""
    home.prepare()
    with turn(home):
        return start_in_turn(home, client, arguments, tell)


def turn(home: Home) -> AbstractContextManager[None]:
    """Inside the block nobody else starts or stops the daemon."""
    return _holding(home.up_lock)


def start_in_turn(home: Home, client: DaemonClient, arguments: tuple[str, ...] = (), tell: Tell = _tell_nobody) -> bool:
    """As ``start``, for who has the ``turn``."""
    while is_running(home):
        with contextlib.suppress(_EndedError):  # it was on its way out
            await_answer(home, client, lambda: not is_running(home), tell)
            return False
    if not arguments and start_unit(home):
        await_answer(home, client, tell=tell)
        return True
    said_before = _trim_log(home)
    process = _spawn(home, arguments)
    try:
        await_answer(home, client, partial(_is_over, process), tell)
    except _EndedError:
        if not is_running(home):
            raise _start_failure(home, process.returncode, said_before) from None
        await_answer(home, client, tell=tell)  # somebody's `serve` was quicker
        return False
    return True


@contextmanager
def _holding(path: Path, patience: Callable[[], float] = lambda: math.inf) -> Iterator[None]:
    """Hold the lock ``path`` inside the block; after ``patience()`` seconds go on without it."""
    descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    begun = time.monotonic()
    try:
        while not _locked(descriptor, wait=patience() == math.inf) and time.monotonic() - begun < patience():
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _trim_log(home: Home) -> int:
    """Put a log that has grown large aside; the size of the one there is then."""
    size = home.daemon_log.stat().st_size if home.daemon_log.exists() else 0
    if size <= MAX_LOG_BYTES:
        return size
    home.daemon_log.replace(home.daemon_log.with_suffix(".log.1"))
    return 0


class _Started(subprocess.Popen[bytes]):
    """A daemon is meant to outlive us: letting go of one that runs is no oversight, whether it answered or not."""

    def __del__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            super().__del__()


def _spawn(home: Home, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    log = open_private(home.daemon_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    # Isolated from the user's directory and PYTHONPATH, or not, as we are; a clone is found from its root.
    isolation = ["-I"] if sys.flags.isolated else []
    try:
        # A session of its own: neither Ctrl-C here nor the end of this terminal reaches it.
        return _Started(
            [sys.executable, *isolation, "-m", "claude_loop", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=resources.clone() or "/",
            env=environment | {"CLAUDE_LOOP_HOME": str(home.root)},
            start_new_session=True,
        )
    finally:
        os.close(log)


class _EndedError(Exception):
    """The process that is the daemon, or was to become it, has ended."""


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def await_answer(
    home: Home, client: DaemonClient, has_ended: Callable[[], bool] | None = None, tell: Tell = _tell_nobody
) -> None:
    """Return when the daemon answers and has left its note.

    Raises ``DaemonUnreachable``, or ``_EndedError`` if there is no answer and ``has_ended``.
    """
    begun = time.monotonic()
    is_told = False
    while not answers(client):
        if has_ended is not None and has_ended():
            raise _EndedError
        waited = time.monotonic() - begun
        # Its note comes last in a start: one that has left it, and does not answer, hangs.
        is_starting = noted_pid(home) is None and (has_ended is not None or is_running(home))
        if waited > (COLD_START_SECONDS if is_starting else START_SECONDS):
            raise DaemonUnreachable(
                f"A daemon runs, but does not answer on {home.socket} within {waited:.0f} seconds.",
                hint=f"`claude-loop down` ends it, `claude-loop up` starts another; {home.daemon_log} may say more.",
            )
        if waited > TELL_SECONDS and is_starting and not is_told:
            is_told = True
            tell(f"claude-loop is still starting; waiting for it, up to {COLD_START_SECONDS:.0f} seconds.")
        time.sleep(_POLL_SECONDS)
    # The note comes last in a start. Whoever removed it from under a running daemon does not wait for long.
    deadline = time.monotonic() + _NOTE_SECONDS
    while noted_pid(home) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _start_failure(home: Home, status: int, said_before: int) -> DaemonUnreachable:
    """What the daemon said when it could not start: its own sentence and hint, else the last line of its log."""
    if status in (0, -signal.SIGTERM):  # that is how one ends that was asked to
        return DaemonUnreachable("The daemon was stopped while it started.", hint="`claude-loop up` starts it again.")
    said = home.daemon_log.read_bytes()[said_before:].decode(errors="replace").splitlines()
    mark = "claude-loop: "
    for number, line in enumerate(said):
        if line.startswith(mark):
            hints = [hint.strip() for hint in said[number + 1 : number + 2] if hint.startswith("  ")]
            return DaemonUnreachable(f"The daemon could not start: {line[len(mark) :][:500]}", hint="".join(hints))
    last = said[-1][:300] if said else "it said nothing."
    return DaemonUnreachable(f"The daemon ended at once (status {status}): {last}", hint=f"See {home.daemon_log}.")


def stop(home: Home, patience: float = STOP_SECONDS) -> Stopped:
    """Stop the daemon and whatever would start it again.

    A start that is on its way comes first, so that the two do not contradict each other. A daemon that does not end
    within ``patience`` seconds is killed: it loses nothing by that. Raises ``DaemonUnreachable``.
    """
    if not home.root.is_dir():
        return "not running"
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # a disk that is read-only or full keeps no daemon from being stopped
            held.enter_context(
                _holding(home.up_lock, lambda: _TURN_SECONDS if is_running(home) else COLD_START_SECONDS)
            )
        ran = is_running(home)
        stop_units(home)
        ended = end(home, patience)
        return "stopped" if ran and ended == "not running" else ended


def end(home: Home, patience: float = STOP_SECONDS) -> Stopped:
    """End the daemon, for who has the ``turn``; what would start it again stays. Raises as ``stop``."""
    # One that is just starting, or dying, does not say who it is for a moment.
    deadline = time.monotonic() + _NOTE_SECONDS
    while (pid := daemon_pid(home)) is None and is_running(home) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if not is_running(home):
        return "not running"
    if pid is None:
        raise DaemonUnreachable(
            "A daemon holds the lock of this home, but does not say who it is.",
            hint=f"`fuser {home.daemon_lock}` names the process.",
        )
    if _ends(home, pid, signal.SIGTERM, patience):
        return "stopped"
    if _ends(home, pid, signal.SIGKILL, _KILL_SECONDS):
        return "killed"
    raise DaemonUnreachable(f"The daemon (pid {pid}) cannot be ended.", hint=f"`ps -p {pid}` shows its state.")


def _ends(home: Home, pid: int, number: signal.Signals, seconds: float) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + seconds
    while is_running(home) and daemon_pid(home) in {pid, None}:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def daemon_pid(home: Home) -> int | None:
    """The pid of the daemon: of the process that has the lock's file open, as far as the system lets us see that."""
    noted = noted_pid(home)
    if noted is not None:
        return noted
    listening = _listener_pid(home)
    # A socket unit's listener is systemd itself.
    return listening if listening is not None and _has_open(listening, home.daemon_lock) else None


def noted_pid(home: Home) -> int | None:
    """The pid in the daemon's note, unless it is one that a crash left behind, which anybody may have by now."""
    note = DaemonNote.read(home)
    if note is None or not is_running(home):
        return None
    return note.pid if _has_open(note.pid, home.daemon_lock) else None


def _listener_pid(home: Home) -> int | None:
    """The pid of whoever listens on the home's socket, where the system tells (Linux)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    try:
        with socket.socket(socket.AF_UNIX) as probe, short_path(home.socket) as path:
            probe.settimeout(_HEALTH_SECONDS)
            probe.connect(path)
            pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            return pid
    except OSError:
        return None


def _has_open(pid: int, path: Path) -> bool:
    if not Path("/proc/self/fd").is_dir():
        return True  # nobody can tell here
    try:
        wanted = path.stat()
        return any(os.path.samestat(fd.stat(), wanted) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
