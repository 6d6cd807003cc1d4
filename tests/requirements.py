"""What a test may need beyond Python: how to find it and, when it is missing, what to do about it.

``@pytest.mark.requires("node", "strace")`` skips a test, with the reason, where one of them is missing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.support import ROOT

NODE_FOLDER = ROOT / "tests" / "e2e" / "node"

# A check answers None, or the reason why tests that need the thing cannot run.
Check = Callable[[], str | None]


def _program(name: str, *more: str, package: str) -> Check:
    def check() -> str | None:
        if any(shutil.which(candidate) for candidate in (name, *more)):
            return None
        return f"{name} is not installed (Debian: apt-get install {package})"

    return check


def find_node() -> Path | None:
    """The Node that runs our clients: the machine's, else the one ``bin/test`` put into the clone's .venv."""
    ours = ROOT / ".venv" / "bin" / "node"
    found = shutil.which("node") or (str(ours) if ours.exists() else None)
    return Path(found) if found else None


def find_chromium() -> Path | None:
    """The distribution's Chromium, for playwright's ``executable_path``."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return Path(found) if found else None


def _node() -> str | None:
    if find_node() is None:
        return "node is not installed (bin/test brings it; Debian: apt-get install nodejs)"
    if not (NODE_FOLDER / "node_modules" / "socket.io-client").is_dir():
        return "Node's socket.io-client is not installed (bin/test does it: npm ci in tests/e2e/node)"
    return None


def _chromium() -> str | None:
    return None if find_chromium() else "chromium is not installed (Debian: apt-get install chromium)"


def _page() -> str | None:
    built = ROOT / "claude_loop" / "web" / "dist" / "built-from"
    return None if built.is_file() else "the monitor page is not built (bin/test does it, with Node or network)"


def _linux() -> str | None:
    return None if sys.platform == "linux" else f"needs Linux, this is {sys.platform}"


def _mallinfo2() -> str | None:
    return None if hasattr(ctypes.CDLL(None), "mallinfo2") else "needs glibc 2.33, to tell what lives in memory"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


def _ipv6() -> str | None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as failure:
        return f"no IPv6 loopback here: {failure.strerror}"
    return None


def _tmpfs() -> str | None:
    """Mounting a small file system, to fill it up: root is not enough in most containers."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs to mount a tmpfs: root on Linux"
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as failure:
        return f"needs to mount a tmpfs: {failure}"
    return None if done.returncode == 0 else f"may not mount a tmpfs here: {done.stderr.strip()}"


def _user_manager() -> str | None:
    """systemd's manager of a user, started in a mount namespace with a `/run` of its own."""
    if not os.access("/lib/systemd/systemd", os.X_OK) or not shutil.which("systemctl"):
        return "systemd is not installed (Debian: apt-get install systemd)"
    return _tmpfs()


REQUIREMENTS: dict[str, Check] = {
    "chromium": _chromium,
    "curl": _program("curl", package="curl"),
    "fish": _program("fish", package="fish"),
    "ipv6": _ipv6,
    "linux": _linux,
    "mallinfo2": _mallinfo2,
    "node": _node,
    "openssl": _program("openssl", package="openssl"),
    "page": _page,
    "redis": _program("redis-server", package="redis-server"),
    "root": _root,
    "shellcheck": _program("shellcheck", package="shellcheck"),
    "strace": _program("strace", package="strace"),
    "systemd-analyze": _program("systemd-analyze", package="systemd"),
    "systemd-socket-activate": _program("systemd-socket-activate", package="systemd"),
    "tmpfs": _tmpfs,
    "user-manager": _user_manager,
    "tmux": _program("tmux", package="tmux"),
    "zsh": _program("zsh", package="zsh"),
}


@cache
def missing(name: str) -> str | None:
    """Why tests that need ``name`` cannot run here, or None. Raises ``KeyError`` for a name that is not known."""
    return REQUIREMENTS[name]()
