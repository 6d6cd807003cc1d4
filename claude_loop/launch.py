"""Starting and stopping the background daemon, safely when several ask at once."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from claude_loop.client import DaemonClient
from claude_loop.errors import DaemonUnreachable
from claude_loop.instance import DaemonNote, is_running
from claude_loop.paths import Home, open_private
from claude_loop.systemd_units import start_unit, stop_units

START_SECONDS = 15.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.01
# One generation of log is enough to explain the last start.
MAX_LOG_BYTES = 10 * 1024 * 1024


def ensure_running(home: Home, client: DaemonClient) -> bool:
    """Start the daemon unless it runs, is elsewhere, or ``CLAUDE_LOOP_AUTOSTART=0``. True if it was started.

    Raises ``DaemonUnreachable``.
    """
    if client.is_elsewhere or os.environ.get("CLAUDE_LOOP_AUTOSTART") == "0" or healthy(client) is not None:
        return False
    return start(home, client)


def healthy(client: DaemonClient) -> dict[str, Any] | None:
    """What the daemon says of its health, or None when it does not answer."""
    try:
        answer = client.get("/health")
    except DaemonUnreachable:
        return None
    return answer if isinstance(answer, dict) else None


def start(home: Home, client: DaemonClient, arguments: tuple[str, ...] = ()) -> bool:
    """Start the daemon and wait until it answers; False if it already ran. Raises ``DaemonUnreachable``."""
    home.prepare()
    with _holding(home.up_lock):
        if is_running(home):
            _await_health(home, client, None)
            return False
        process = None
        if arguments or not start_unit(home):
            process = _spawn(home, arguments)
        _await_health(home, client, process)
        return True


@contextmanager
def _holding(path: Path) -> Iterator[None]:
    descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _spawn(home: Home, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    if home.daemon_log.exists() and home.daemon_log.stat().st_size > MAX_LOG_BYTES:
        home.daemon_log.replace(home.daemon_log.with_suffix(".log.1"))
    log = open_private(home.daemon_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    environment = os.environ | {"CLAUDE_LOOP_HOME": str(home.root)}
    try:
        # A session of its own: neither Ctrl-C here nor the end of this terminal reaches it.
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, *_isolation(), "-m", "claude_loop", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(log)


def _isolation() -> list[str]:
    """The daemon is started as we were: isolated from the user's directory and PYTHONPATH, or not."""
    return ["-I"] if sys.flags.isolated else []


def _await_health(home: Home, client: DaemonClient, process: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + START_SECONDS
    while healthy(client) is None:
        if process is not None and process.poll() is not None:
            raise DaemonUnreachable(
                f"The daemon ended at once (status {process.returncode}): {_last_words(home)}",
                hint=f"{home.daemon_log} has the rest.",
            )
        if time.monotonic() > deadline:
            raise DaemonUnreachable(
                f"The daemon did not answer within {START_SECONDS:.0f} seconds.", hint=f"See {home.daemon_log}."
            )
        time.sleep(_POLL_SECONDS)


def _last_words(home: Home) -> str:
    try:
        lines = home.daemon_log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log was written."
    return lines[-1][:300] if lines else "it said nothing."


def stop(home: Home) -> bool:
    """Stop the daemon and whatever would start it again; False if none ran. Raises ``DaemonUnreachable``."""
    stop_units(home)
    if not is_running(home):
        return False
    pid = daemon_pid(home)
    if pid is None:
        raise DaemonUnreachable(
            "A daemon holds the lock of this home, but does not say who it is.",
            hint=f"`fuser {home.daemon_lock}` names the process.",
        )
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_running(home):
        if time.monotonic() > deadline:
            raise DaemonUnreachable(f"The daemon (pid {pid}) did not stop within {STOP_SECONDS:.0f} seconds.")
        time.sleep(_POLL_SECONDS)
    return True


def daemon_pid(home: Home) -> int | None:
    """The pid of the process that listens on the home's socket, or holds its lock: proven, not just noted."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            probe.connect(str(home.socket))
            if hasattr(socket, "SO_PEERCRED"):
                credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                pid: int = struct.unpack("3i", credentials)[0]
                return pid
    except OSError:
        pass  # not listening (any more): the note may still name the holder of the lock
    note = DaemonNote.read(home)
    if note is not None and _has_open(note.pid, home.daemon_lock):
        return note.pid
    return None


def _has_open(pid: int, path: Path) -> bool:
    try:
        return any(Path(os.readlink(fd)) == path for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
