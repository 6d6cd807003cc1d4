"""Who else wants our port: mostly a claude-loop of another home or user, and then one can say what to do about it.

Of our own processes it shows by the lock that a daemon holds open. Others are asked `/health`, without a token: whoever
listens there learns nothing.
"""

from __future__ import annotations

import os
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from claude_loop.errors import PortTaken
from claude_loop.transports.port_holder import Holder, holder
from claude_loop.unit_files import SOCKET, UnitFiles, user_folder

_ASK_SECONDS = 1.0
_HEADERS_BYTES = 4096
_OURS = b"\r\nServer: claude-loop\r\n"
_LOCK, _LOG = "daemon.lock", "events.db"
_ELSE = "choose another port with CLAUDE_LOOP_PORT (0: any free one)."


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A claude-loop that has the port. ``home`` is known of our own ones; ``waits``: systemd, which would start it."""

    home: Path | None = None
    waits: bool = False

    def __str__(self) -> str:
        if self.home is None:
            return "a claude-loop daemon"
        if self.waits:
            return f"{SOCKET}, which starts the claude-loop daemon of {self.home}"
        return f"the claude-loop daemon of {self.home}"

    @property
    def hint(self) -> str:
        if self.home is None:
            return f"Every user's daemon needs a port of its own: {_ELSE}"
        command = f"CLAUDE_LOOP_HOME={shlex.quote(str(self.home))} claude-loop"
        if self.waits:
            return f"`{command} up` starts it behind that port, `{command} down` frees the port. Or {_ELSE}"
        return f"`{command} status` shows it, `{command} down` stops it. For one more daemon {_ELSE}"


def clash(address: str, port: int) -> PortTaken:
    """The refusal for a port that somebody listens on, as far as can be told who."""
    try:
        found = holder(address, port)
    except OSError:  # another system than Linux, or a sandbox without netlink
        found = None
    by = f" by {found}" if found else ""
    known = known_by_its_process(found, port) if found and found.uid == os.geteuid() else _asked(address, port)
    if known is None:
        return PortTaken(f"Port {port} on {address} is taken{by}.", field="port")
    named = f"{by}: {known}" if by else f" by {known}"
    return PortTaken(f"Port {port} on {address} is taken{named}.", field="port", hint=known.hint)


def known_by_its_process(found: Holder, port: int) -> Neighbour | None:
    """What shows without a word to it; None if it is no claude-loop, or another user's process."""
    if found.pid is None:
        return None
    if found.command == "systemd":
        home = _home_behind(port)
        return None if home is None else Neighbour(home, waits=True)
    home = _home_of(found.pid)
    return None if home is None else Neighbour(home)


def _home_of(pid: int) -> Path | None:
    """The directory whose lock the process has open."""
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            file = Path(os.readlink(descriptor))
            if file.name == _LOCK and (file.parent / _LOG).exists():
                return file.parent
    except OSError:
        pass  # it has just ended
    return None


def _home_behind(port: int) -> Path | None:
    """The home that this user's socket unit serves at ``port``."""
    files = UnitFiles(user_folder())
    try:
        listens = (files.folder / SOCKET).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    ours = any(line.startswith("ListenStream=") and line.endswith(f":{port}") for line in listens)
    return files.served_home() if ours else None


def _asked(address: str, port: int) -> Neighbour | None:
    """Another user's process, or one that the system does not tell of. It may be anybody's: it gets a second, and is
    read no further than the headers of ours go."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - a comparison
    deadline = time.monotonic() + _ASK_SECONDS
    said = b""
    try:
        with socket.create_connection((reached, port), timeout=_ASK_SECONDS) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while len(said) < _HEADERS_BYTES and (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                if not (part := connection.recv(_HEADERS_BYTES)):
                    break
                said += part
                if _OURS in said:
                    return Neighbour()
    except OSError:
        pass  # it does not listen any more, or says too little in time
    return None
