"""Whether events.db can be written to: where it lies, what is known of its damage, and what failed last."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import structlog

from claude_loop.errors import ClaudeLoopError, LoadError, LogDamaged, LogGone
from claude_loop.eventlog.sqlite_file import place_of, storage_error

log = structlog.get_logger(__name__)


class Health:
    """Of one writer, used by its thread but for ``note_damage``. ``report`` hears of each failure and of its end."""

    def __init__(self, path: Path, report: Callable[[ClaudeLoopError | None], None]) -> None:
        self._path = path
        self._report = report
        self._place: tuple[int, int] | None = None
        self.failure: ClaudeLoopError | None = None
        self.damage: ClaudeLoopError | None = None

    def note_damage(self, failure: ClaudeLoopError) -> None:
        """Somebody has found the file damaged. From any thread."""
        self.damage = self.damage or failure

    def note_place(self) -> None:
        """The file was opened where it lies now."""
        self._place = place_of(self._path)

    def insist(self) -> None:
        """What is known to be damaged is not written to any more: it would spread, and it is all that can be saved.
        Raises that, or ``LogGone``."""
        if self.damage is not None:
            raise self.damage
        self.insist_on_place()

    def insist_on_place(self) -> None:
        """SQLite goes on writing to a file that was deleted or moved: what is stored there nobody finds again."""
        if self._place is not None and place_of(self._path) != self._place:
            raise LogGone(f"{self._path.name} was moved or deleted while the daemon has it open.")

    def failed(self, failure: sqlite3.Error | OSError | LoadError) -> ClaudeLoopError:
        """What ``failure`` means to a publisher."""
        error = failure if isinstance(failure, LoadError) else storage_error(failure, self._path)
        if isinstance(error, LogDamaged):
            self.note_damage(error)
        if self.failure is None or self.failure.code != error.code:
            log.error("the event log cannot be written", code=error.code, reason=str(failure))
        self.failure = error
        self._report(error)
        return error

    def recovered(self) -> None:
        """Something was written."""
        if self.failure is not None:
            log.info("the event log can be written again", after=self.failure.code)
            self.failure = None
            self._report(None)
