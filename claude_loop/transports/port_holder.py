"""Who holds a port we wanted: for the error message, so it may take its time and may not know."""

from __future__ import annotations

import os
import pwd
import re

from claude_loop.transports.peer import Owner, SocketDiagnostics


def who_holds(address: str, port: int) -> str:
    """`` by …`` naming process and user of the listener at a loopback address; empty when it cannot be told."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - a comparison
    diagnostics = SocketDiagnostics()
    try:
        owner = diagnostics.listener_owner(address, port)
    except OSError:
        return ""
    finally:
        diagnostics.close()
    if owner is None:
        return ""
    process = _process_of(owner)
    return f" by {process} of {_user(owner.uid)}" if process else f" by a process of {_user(owner.uid)}"


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def _process_of(owner: Owner) -> str:
    """``process 4711 (python)``; empty for another user's process, whose descriptors we may not see."""
    wanted = f"socket:[{owner.inode}]"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # another user's, or gone meanwhile
        if any(_link(f"/proc/{pid}/fd/{each}") == wanted for each in descriptors):
            return f"process {pid}{_command(pid)}"
    return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            # A process chooses its own name, and this goes to a terminal.
            return f" ({re.sub(r'[^!-~]', '?', file.read().rstrip())})"
    except OSError:
        return ""
