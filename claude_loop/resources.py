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


def emitter() -> Path:
    """``emit_progress.sh``. An installed copy lies beside the commands."""
    root = clone()
    if root:
        return root / "bin" / "emit_progress.sh"
    beside = Path(sys.prefix) / "bin" / "emit_progress.sh"
    found = None if beside.is_file() else shutil.which("emit_progress.sh")
    return Path(found) if found else beside


def replay_page() -> Path:
    """The page that an exported replay goes into; it is there once the web pages have been built."""
    return _PACKAGE / "web" / "dist" / "export.html"
