"""The systemd user units, as far as `up` and `down` have to know them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from claude_loop.errors import DaemonUnreachable
from claude_loop.paths import Home

SERVICE, SOCKET, PATH = "claude-loop.service", "claude-loop.socket", "claude-loop.path"
_SECONDS = 30


def start_unit(home: Home) -> bool:
    """Start the service through systemd if its socket unit is active for this home; False if it is not.

    Raises ``DaemonUnreachable`` when systemd could not start it: the port is systemd's then, and nobody else can.
    """
    if not _manages(home) or not _systemctl("is-active", "--quiet", SOCKET):
        return False
    if not _systemctl("start", SERVICE):
        hint = f"`journalctl --user -u {SERVICE} -n 20` says why."
        raise DaemonUnreachable(f"systemd could not start {SERVICE}.", hint=hint)
    return True


def stop_units(home: Home) -> None:
    """Stop what would start the daemon again, then the service."""
    if _manages(home):
        # Whatever state they are in: a service that waits for its restart is not "active", and would come back.
        _systemctl("stop", PATH, SOCKET, SERVICE)


def _manages(home: Home) -> bool:
    """Whether there is a user manager, and this is the home its units serve: the default one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not runtime or not Path(runtime, "systemd", "private").exists() or shutil.which("systemctl") is None:
        return False
    return home.root == Home.from_environment({}).root


def _systemctl(*arguments: str) -> bool:
    command = ["systemctl", "--user", *arguments]
    try:
        return subprocess.run(command, check=False, timeout=_SECONDS, capture_output=True).returncode == 0  # noqa: S603
    except subprocess.TimeoutExpired:
        raise DaemonUnreachable(f"`{' '.join(command)}` did not end within {_SECONDS} seconds.", hint="") from None
