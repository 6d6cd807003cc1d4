"""The `prd.json` of a wrapped run: where the tools keep it, and its last whole content."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from claude_loop.adopt.wrapped_runs import WrappedRun, read_small_file
from claude_loop.formats.prd_json import Plan, read_plan

_LARGEST = 4 * 1024 * 1024
# Agents write such a file in several pieces; it is read when it has rested this long.
DEBOUNCE_SECONDS = 0.3
_INTERPRETERS = frozenset(
    {"bash", "sh", "zsh", "dash", "env", "python", "python3", "node", "uv", "npx", "nohup", "time"}
)


@dataclass(slots=True)
class PrdFile:
    """Looked at again and again. Once found, the file stays the one: another must not step in while it is replaced."""

    run: WrappedRun
    debounce: float = DEBOUNCE_SECONDS
    path: Path | None = None
    _seen: tuple[int, int, int] | None = field(default=None)
    _seen_at: float = 0.0
    _read: bool = True

    @property
    def is_settling(self) -> bool:
        """Whether it has changed and was not read since."""
        return not self._read

    def look(self, now: float, *, at_once: bool = False) -> Plan | None:
        """The plan, if the file has changed and rested since and is a whole plan. ``at_once``: without the rest.

        ``now`` is on the monotonic clock.
        """
        if self.path is None:
            self.path = next((path for path in candidates(self.run) if _is_file(path)), None)
        status = None if self.path is None else _status(self.path)
        if status is None:
            return None  # away for the moment: the last plan holds
        if status != self._seen:
            self._seen, self._seen_at, self._read = status, now, False
        if self._read or (not at_once and now - self._seen_at < self.debounce):
            return None
        self._read = True
        return self._plan()

    def changed_at(self) -> float:
        """When the file was last written, seconds since the epoch."""
        return 0.0 if self._seen is None else self._seen[2] / 1e9

    def _plan(self) -> Plan | None:
        assert self.path is not None  # noqa: S101 - its status is known
        try:
            return read_plan(read_small_file(self.path, _LARGEST))
        except (OSError, ValueError):
            return None  # not readable, too large, no file: as if it were half written


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # also where we may not look


def _status(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def candidates(run: WrappedRun) -> list[Path]:
    """Where it may be, the likeliest first."""
    if run.prd_file is not None:
        return [run.cwd / run.prd_file]
    script = _script(run)
    found = [run.cwd / "prd.json"]
    if script is not None:
        found.append(script.parent / "prd.json")
    found.append(run.cwd / "scripts/ralph/prd.json")
    active = sorted((run.cwd / "prds/active").glob("*/prd.json"))
    return found + (active if len(active) == 1 else [])


def _script(run: WrappedRun) -> Path | None:
    """The file that the command runs: its first word, or what it gives an interpreter."""
    for word in run.command[:6]:
        name = os.path.basename(word)
        if "/" in word or name.endswith((".sh", ".py", ".js")):
            path = run.cwd / word
            if name not in _INTERPRETERS and _is_file(path):
                return path
        if name not in _INTERPRETERS and not word.startswith("-") and "=" not in word:
            return None
    return None
