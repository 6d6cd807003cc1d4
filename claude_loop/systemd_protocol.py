"""The service manager's side of the daemon: readiness, watchdog and sockets it opened for us.

Three small protocols, all optional: without systemd's variables in the environment everything here does nothing.
The variables are removed when they are read: a child that inherited them would speak in the daemon's name.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

import structlog

from claude_loop.errors import ActivationFailed

log = structlog.get_logger(__name__)

# The first descriptor that socket activation passes; 0, 1 and 2 are taken.
_FIRST_DESCRIPTOR = 3


class ServiceManager:
    """Says to the service manager how the daemon is. Says nothing when there is none.

    Notifications are best effort: the daemon serves its readers even when nobody supervises it any more, so a
    failure to send is logged and answered with False.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None, *, started_us: bool = False) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds
        """Silence after which the manager kills the daemon; None when it does not watch."""
        self.started_us = started_us
        """Whether it is this process that it waits for; False also where it does not tell (before systemd 248)."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> ServiceManager:
        """Takes ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` out of ``environ``."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        watched_pid = environ.pop("WATCHDOG_PID", None)
        # Inherited by whatever the service starts, a shell for example: then the pid is another's.
        started_us = address is not None and environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())
        if not microseconds.isdecimal() or int(microseconds) == 0:
            return cls(address, started_us=started_us)
        if watched_pid is not None and watched_pid != str(os.getpid()):
            return cls(address, started_us=started_us)
        return cls(address, int(microseconds) / 1_000_000, started_us=started_us)

    def ready(self, status: str) -> bool:
        """The daemon listens and has its log open; ``status`` is a line for ``systemctl status``."""
        return self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, status: str) -> bool:
        return self._send(f"STATUS={_one_line(status)}")

    def stopping(self) -> bool:
        return self._send("STOPPING=1")

    def extend_start(self, seconds: float) -> bool:
        """Ask for at most ``seconds`` more until ``ready``: a migration of a large log takes its time."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def alive(self) -> bool:
        """One sign of life for the watchdog."""
        return self._send("WATCHDOG=1")

    async def keep_alive(self) -> None:
        """Signs of life from the event loop, twice in each watchdog time, until cancelled; for a ``TaskOwner``.

        It runs on the loop that serves, on purpose: a loop that hangs is what the watchdog is there to see.
        """
        if self._address is None or self.watchdog_seconds is None:
            return
        while True:
            self.alive()
            await asyncio.sleep(self.watchdog_seconds / 2)

    def _send(self, *assignments: str) -> bool:
        if self._address is None:
            return False
        # A leading @ stands for the zero byte that begins an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)  # a manager that hangs must not hang the event loop
                channel.sendto("\n".join(assignments).encode(), address)
        except OSError as failure:
            log.warning("service manager not reached", address=self._address, reason=str(failure))
            return False
        return True


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A listening stream socket that the service manager opened; whoever takes it closes it."""

    name: str
    """``FileDescriptorName=`` of the socket unit, by default the unit's name."""
    socket: socket.socket


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[PassedSocket]:
    """The sockets passed to this very process, in the manager's order; empty when there are none.

    Takes ``LISTEN_FDS``, ``LISTEN_PID`` and ``LISTEN_FDNAMES`` out of ``environ`` and keeps the descriptors from
    being inherited. Raises ``ActivationFailed`` when the unit passes something else than listening stream sockets.
    """
    count = environ.pop("LISTEN_FDS", "")
    pid = environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()):
        return []  # meant for the process that started us, and long served
    if not count.isdecimal():
        raise ActivationFailed(f"LISTEN_FDS is {count!r}, not a number.")
    passed = []
    for index in range(int(count)):
        name = names[index] if index < len(names) and names[index] else "unknown"
        passed.append(PassedSocket(name, _adopt(_FIRST_DESCRIPTOR + index, name)))
    return passed


def _adopt(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        adopted = socket.socket(fileno=descriptor)
        listening = adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as failure:
        raise ActivationFailed(f"Descriptor {descriptor} ({name}) is no socket: {failure.strerror}.") from failure
    if adopted.type != socket.SOCK_STREAM or not listening:
        raise ActivationFailed(f"Descriptor {descriptor} ({name}) is no listening stream socket.")
    return adopted


def _one_line(text: str) -> str:
    return " ".join(text.split())
