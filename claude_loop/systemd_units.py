"""The systemd user units, as far as `up` and `down` have to know them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from claude_loop.paths import Home

SERVICE, SOCKET, PATH = "claude-loop.service", "claude-loop.socket", "claude-loop.path"
_SECONDS = 20


def start_unit(home: Home) -> bool:
    """Start the service through systemd if its socket unit is loaded for this home; False if not."""
    if not _manages(home) or not _systemctl("is-active", "--quiet", SOCKET):
        return False
    return _systemctl("start", SERVICE)


def stop_units(home: Home) -> None:
    """Stop what would start the daemon again, then the service."""
    if _manages(home):
        for unit in (PATH, SOCKET, SERVICE):
            if _systemctl("is-active", "--quiet", unit):
                _systemctl("stop", unit)


def _manages(home: Home) -> bool:
    """Whether there is a user manager, and this is the home its units serve: the default one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not runtime or not Path(runtime, "systemd", "private").exists() or shutil.which("systemctl") is None:
        return False
    return home.root == Home.from_environment({}).root


def _systemctl(*arguments: str) -> bool:
    command = ["systemctl", "--user", *arguments]
    return subprocess.run(command, check=False, timeout=_SECONDS, capture_output=True).returncode == 0  # noqa: S603
