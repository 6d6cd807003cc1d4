"""Places in the daemon at which a scenario may have it killed: around commit, spool claim, offset update and prune.

They are reached from outside, by wrapping the file operations and SQL statements of the real daemon before it starts:
what users run has none of this.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any, ClassVar

# Statements of events.db, by how they begin, and what has happened once they have.
_STATEMENTS = {
    "INSERT OR ROLLBACK INTO events": "commit.inserted",
    "INSERT OR REPLACE INTO spool_offsets": "commit.offsets",
    "DELETE FROM spool_offsets": "spool.row",
    "DELETE FROM events": "prune.deleted",
}
COMMIT = (
    "commit.inserted",
    "commit.row",
    "commit.before",
    "commit.after",
    "announce.before",
    "announce.told",
    "announce.after",
)
SPOOL = (
    "commit.offsets",
    "spool.rename.before",
    "spool.rename.after",
    "spool.lease.before",
    "spool.lease.after",
    "spool.row.before",
    "spool.row.after",
    "spool.unlink.before",
    "spool.unlink.after",
    "flush.before",
    "flush.after",
)
PRUNE = ("prune.deleted", "prune.before", "prune.after")
LABELS = COMMIT + SPOOL + PRUNE


class Killer:
    """Ends this process the ``hit``-th time that ``label`` is reached, as a crash does.

    First it waits ``pause`` seconds: whatever was told too early has time to get out.
    """

    def __init__(self, label: str, hit: int = 1, pause: float = 0.05) -> None:
        self._label = label
        self._left = hit
        self._pause = pause

    def reach(self, label: str) -> None:
        if label != self._label:
            return
        self._left -= 1
        if self._left == 0:
            time.sleep(self._pause)
            os.kill(os.getpid(), signal.SIGKILL)


def install(killer: Killer) -> None:
    """Wrap the daemon's functions, before it is started."""
    _wrap_database(killer.reach)
    _wrap_announcements(killer.reach)
    _wrap_spool(killer.reach)


class _Labelled(sqlite3.Connection):
    """A connection to events.db that tells how far its transaction has come."""

    reach: ClassVar[Callable[[str], None]]
    _done: frozenset[str] = frozenset()

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql.startswith("BEGIN"):
            self._done = frozenset()
        area = self._area() if sql == "COMMIT" else None
        if area is not None:
            type(self).reach(f"{area}.before")
        cursor = super().execute(sql, *values)
        if area is not None:
            type(self).reach(f"{area}.after")
        self._note(sql)
        return cursor

    def executemany(self, sql: str, values: Any) -> sqlite3.Cursor:
        cursor = super().executemany(sql, values)
        self._note(sql)
        return cursor

    def _area(self) -> str | None:
        if "prune.deleted" in self._done:
            return "prune"
        if "spool.row" in self._done:
            return "spool.row"
        return "commit" if "commit.inserted" in self._done else None

    def _note(self, sql: str) -> None:
        label = next((label for begin, label in _STATEMENTS.items() if sql.startswith(begin)), None)
        if sql.startswith("INSERT OR REPLACE INTO log") and "commit.inserted" in self._done:
            label = "commit.row"
        if label is not None:
            self._done |= {label}
            type(self).reach(label)


def _wrap_database(reach: Callable[[str], None]) -> None:
    connect = sqlite3.connect
    _Labelled.reach = staticmethod(reach)

    def labelled(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        if str(database).endswith("/events.db"):
            options.setdefault("factory", _Labelled)
        return connect(database, *arguments, **options)

    sqlite3.connect = labelled  # type: ignore[assignment]


def _around(owner: type, name: str, before: str | None, after: str | None, reach: Callable[[str], None]) -> None:
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if before:
            reach(before)
        result = real(*arguments, **options)
        if after:
            reach(after)
        return result

    setattr(owner, name, wrapped)


def _wrap_announcements(reach: Callable[[str], None]) -> None:
    from claude_loop.eventlog.sqlite import SqliteEventLog
    from claude_loop.hub import Hub

    # Both happen in one step of the event loop: readers are told, then publishers are answered.
    real = SqliteEventLog._announce

    def announce(log: SqliteEventLog, committed: Any) -> None:
        if not committed.events:
            return real(log, committed)
        reach("announce.before")
        real(log, committed)
        return reach("announce.after")

    SqliteEventLog._announce = announce  # type: ignore[method-assign]
    told = Hub._announce

    def tell(hub: Hub, events: Any, state: Any) -> None:
        told(hub, events, state)
        if events:
            reach("announce.told")

    Hub._announce = tell  # type: ignore[method-assign]


def _wrap_spool(reach: Callable[[str], None]) -> None:
    from claude_loop.intake.spool_files import SpoolFiles

    _around(SpoolFiles, "leave", "spool.rename.before", "spool.rename.after", reach)
    _around(SpoolFiles, "writers", "spool.lease.before", "spool.lease.after", reach)
    _around(SpoolFiles, "remove", "spool.unlink.before", "spool.unlink.after", reach)
    _around(SpoolFiles, "answer_flush", "flush.before", "flush.after", reach)
