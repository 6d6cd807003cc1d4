"""What several test files share: waiting with a deadline, free ports, and the way to the clone."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "bin"

# How long a test waits for what must come, in seconds. What comes in time costs none of it; a loaded machine may need much.
PATIENCE = 30.0

# Short enough to add no latency worth measuring, long enough to leave the CPU to the process that is waited for.
_STEP = 0.005
# A look may be a request that the daemon works for, and several tests wait at a time: short looks take a fifth of a core at
# the most. The longest pause bounds what a test loses by that.
_REST = 4
_LONGEST = 0.1


def until(predicate: Callable[[], T], seconds: float = PATIENCE, what: str = "") -> T:
    """The first true value of ``predicate``, polled; an ``AssertionError`` that names ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    looked = time.monotonic()
    while not (value := predicate()):
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {seconds} s: {what or _source(predicate)} (last: {value!r})")
        time.sleep(_pause(now - looked))
        looked = time.monotonic()
    return value


async def eventually(predicate: Callable[[], T | Awaitable[T]], seconds: float = PATIENCE, what: str = "") -> T:
    """Like ``until``, for code that shares the event loop; ``predicate`` may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        looked = time.monotonic()
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {seconds} s: {what or _source(predicate)} (last: {value!r})")
        await asyncio.sleep(_pause(now - looked))


def _pause(look: float) -> float:
    """How long to wait after a look that took so many seconds."""
    return min(max(_STEP, _REST * look), _LONGEST)


def _source(predicate: Callable[..., object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return repr(predicate)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on at this moment; servers that can should bind port 0 instead."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def unmeasured() -> dict[str, str]:
    """The environment for a process whose modules are looked at: `bin/coverage` would add its own to them."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def alive(pid: int) -> bool:
    """Whether ``pid`` runs; a zombie counts as gone."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, PermissionError):
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no procfs here: kill's answer stands
    return state != "Z"


def parent(pid: int) -> int:
    """The process that started ``pid``, or has taken it over; 0 where there is none, or no procfs to tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def kill(pid: int, *, gently: float = 5.0) -> None:
    """End one process that the test started: SIGTERM, then SIGKILL after ``gently`` seconds."""
    deadline = time.monotonic() + gently
    number = signal.SIGTERM
    while alive(pid):
        os.kill(pid, number)
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(_STEP)
        number, deadline = signal.SIGKILL, deadline + gently


def end_with(work: Callable[[], object]) -> NoReturn:
    """In a forked child: work and end, and never return into the parent's code; the exit status says how it went."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it was, the exit status says so
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
