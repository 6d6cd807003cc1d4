"""The daemon as a launchd agent of a macOS user. Written from the documentation of launchd; it has never been run."""

from __future__ import annotations

import plistlib
from pathlib import Path

LABEL = "claude-loop"


def location() -> Path:
    return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"


def property_list(command: Path, home: Path) -> bytes:
    """Started at login, and again when it crashes; not after `claude-loop down`, which ends it with status 0."""
    log = str(home / "daemon.log")
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [str(command), "serve"],
            "EnvironmentVariables": {"CLAUDE_LOOP_HOME": str(home)},
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ProcessType": "Background",
            "Umask": 0o077,
            "StandardOutPath": log,
            "StandardErrorPath": log,
        }
    )


def is_ours(content: bytes) -> bool:
    try:
        return bool(plistlib.loads(content).get("Label") == LABEL)
    except (plistlib.InvalidFileException, ValueError, AttributeError):
        return False
