"""Files that ship beside the code: found in an installed copy and in a clone alike."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def clone() -> Path | None:
    """The root of the clone this code runs from; None when it was installed."""
    root = _PACKAGE.parent
    return root if (root / "bin" / "emit_progress.sh").is_file() and (root / "examples").is_dir() else None


def examples() -> Path:
    """The directory of examples."""
    root = clone()
    return root / "examples" if root else _PACKAGE / "examples"


def command() -> Path:
    """``claude-loop`` itself."""
    return _command("claude-loop")


def units() -> Path:
    """The directory of systemd units."""
    root = clone()
    return root / "systemd" if root else _PACKAGE / "systemd"


def emitter() -> Path:
    """``emit_progress.sh``."""
    return _command("emit_progress.sh")


def hook() -> Path:
    """``claude-loop-hook``, which agents run."""
    return _command("claude-loop-hook")


def lasting(ours: Path) -> Path:
    """The link to a command of ours that `claude-loop install` made, which outlives a clone that moves; else itself."""
    link = Path.home() / ".local" / "bin" / ours.name
    return link if link.exists() and ours.exists() and link.samefile(ours) else ours


def _command(name: str) -> Path:
    """An installed copy lies beside the commands."""
    root = clone()
    if root:
        return root / "bin" / name
    beside = Path(sys.prefix) / "bin" / name
    found = None if beside.is_file() else shutil.which(name)
    return Path(found) if found else beside


def replay_page() -> Path:
    """The page that an exported replay goes into; it is there once the web pages have been built."""
    return _PACKAGE / "web" / "dist" / "export.html"
