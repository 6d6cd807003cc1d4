"""The `prd.json` of a wrapped run: its last whole content."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from claude_loop.adopt.wrapped_runs import WrappedRun, read_small_file
from claude_loop.formats.prd_json import Plan, read_plan
from claude_loop.plan_places import first_file, plan_files

_LARGEST = 4 * 1024 * 1024
# Agents write such a file in several pieces; it is read when it has rested this long.
DEBOUNCE_SECONDS = 0.3


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
            self.path = first_file(_places(self.run))
        status = None if self.path is None else _status(self.path)
        if status is None:
            return None  # away for the moment: the last plan holds
        if status != self._seen:
            # What lay there untouched before the run began is whole.
            rested = self._seen is None and status[2] / 1e6 + self.debounce * 1000 <= self.run.started_at
            self._seen, self._seen_at, self._read = status, now - self.debounce if rested else now, False
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


def _status(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _places(run: WrappedRun) -> list[Path]:
    return plan_files(run.cwd, run.script) if run.prd_file is None else [run.cwd / run.prd_file]
