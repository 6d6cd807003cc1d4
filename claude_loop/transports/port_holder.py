"""Who holds a port: for error messages and `doctor`, so it may take its time and may not know."""

from __future__ import annotations

import errno
import os
import pwd
import re
import sys
from dataclasses import dataclass

from claude_loop.transports.peer import Owner, SocketDiagnostics


@dataclass(frozen=True, slots=True)
class Holder:
    """The listener at an address. ``pid`` and ``command`` are those of our own processes only."""

    uid: int
    pid: int | None = None
    command: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of {_user(self.uid)}"
        command = f" ({self.command})" if self.command else ""
        return f"process {self.pid}{command} of {_user(self.uid)}"


def holder(address: str, port: int) -> Holder | None:
    """The listener at a loopback address, found without a connection to it; None if there is none.

    Raises ``OSError`` when the kernel cannot be asked.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "only Linux tells who listens")
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - a comparison
    diagnostics = SocketDiagnostics()
    try:
        owner = diagnostics.listener_owner(address, port)
    finally:
        diagnostics.close()
    if owner is None:
        return None
    pid = _process_of(owner)
    return Holder(owner.uid) if pid is None else Holder(owner.uid, int(pid), _command(pid))


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def _process_of(owner: Owner) -> str | None:
    """Its pid; None for another user's process, whose descriptors we may not see."""
    wanted = f"socket:[{owner.inode}]"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # another user's, or gone meanwhile
        if any(_link(f"/proc/{pid}/fd/{each}") == wanted for each in descriptors):
            return pid
    return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            # A process chooses its own name, and this goes to a terminal.
            return re.sub(r"[^!-~]", "?", file.read().rstrip())
    except OSError:
        return ""
