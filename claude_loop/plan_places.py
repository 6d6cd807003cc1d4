"""Where the tools that keep a `prd.json` keep it: asked by `claude-loop run` as it begins, and by the daemon later.

Standard library only: the command is to begin at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

_INTERPRETERS = frozenset(
    {"bash", "sh", "zsh", "dash", "env", "python", "python3", "node", "uv", "npx", "nohup", "time"}
)


def plan_files(cwd: Path, script: Path | None) -> list[Path]:
    """Where it may be for a command started in ``cwd`` that runs ``script``, the likeliest first."""
    found = [cwd / "prd.json"]
    if script is not None:
        found.append(script.parent / "prd.json")
    found.append(cwd / "scripts/ralph/prd.json")
    active = sorted((cwd / "prds/active").glob("*/prd.json"))
    return found + (active if len(active) == 1 else [])


def first_file(places: Sequence[Path]) -> Path | None:
    return next((path for path in places if _is_file(path)), None)


def script_of(cwd: Path, command: Sequence[str]) -> Path | None:
    """The file that the command runs: its first word, or what it gives an interpreter."""
    for word in command[:6]:
        name = os.path.basename(word)
        if "/" in word or name.endswith((".sh", ".py", ".js")):
            path = cwd / word
            if name not in _INTERPRETERS and _is_file(path):
                return path
        if name not in _INTERPRETERS and not word.startswith("-") and "=" not in word:
            return None
    return None


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # also where we may not look
