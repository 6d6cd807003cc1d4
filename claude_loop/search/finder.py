"""Answers from the index: matching events, newest first."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from claude_loop.errors import InvalidRequest
from claude_loop.eventlog.sqlite_rows import COLUMNS, event_from_row, where
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.search.index import SHARD_EVENTS, connect, indexed_upto

# A search that takes longer looks for what stands almost everywhere, and keeps others waiting.
LONGEST_SECONDS = 2.0
# SQLite asks whether to go on after so many steps of its machine: some tens of microseconds.
_STEPS_BETWEEN_LOOKS = 5_000
_COLUMNS = ", ".join(f"event.{column}" for column in COLUMNS.split(", "))


class Found(NamedTuple):
    """``more``: there are older ones. ``indexed_upto``: later events have not been looked at."""

    events: list[Event]
    more: bool
    indexed_upto: int


class Finder:
    """A reading connection to search.db and the log. Belongs to one thread at a time."""

    def __init__(self, path: Path, log_path: Path, shard_events: int = SHARD_EVENTS) -> None:
        self._shard_events = shard_events
        self._connection = connect(path, log_path, read_only=True)
        self._deadline = 0.0
        self._connection.set_progress_handler(self._is_late, _STEPS_BETWEEN_LOOKS)

    def close(self) -> None:
        self._connection.close()

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def find(self, expression: str, filter_: Filter, upto: int, first: int, limit: int, max_bytes: int) -> Found:
        """Up to ``limit`` events with ``seq`` from ``first`` to ``upto``.

        Raises ``sqlite3.Error``, and ``InvalidRequest`` when it takes too long.
        """
        self._deadline = time.monotonic() + LONGEST_SECONDS
        try:
            self._connection.execute("BEGIN")  # the index and the log of one moment
            return self._find(expression, filter_, upto, first, limit, max_bytes)
        except sqlite3.OperationalError as failure:
            if not self._is_late():
                raise
            raise InvalidRequest(
                f"This search takes more than {LONGEST_SECONDS:.0f} seconds.",
                field="q",
                hint="Look for longer or more words, or for fewer events: filter by `prd_id`, `type` and so on.",
            ) from failure
        finally:
            self._deadline = float("inf")
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def _find(self, expression: str, filter_: Filter, upto: int, first: int, limit: int, max_bytes: int) -> Found:
        place = indexed_upto(self._connection, first, self._shard_events)
        events: list[Event] = []
        size = 0
        shards = self._connection.execute(
            "SELECT number FROM shards WHERE number <= ? ORDER BY number DESC", ((upto - 1) // self._shard_events,)
        )
        for (number,) in shards.fetchall():
            for row in self._matches(number, expression, filter_, first, upto, limit + 1 - len(events)):
                size += len(row[-1])
                if len(events) == limit or (events and size > max_bytes):
                    return Found(events, more=True, indexed_upto=place)
                events.append(event_from_row(row))
        return Found(events, more=False, indexed_upto=place)

    def _matches(
        self, number: int, expression: str, filter_: Filter, first: int, upto: int, count: int
    ) -> sqlite3.Cursor:
        condition, values = where(filter_)
        # The cross join keeps SQLite from going through the events first and asking the index for each.
        statement = (
            f"SELECT {_COLUMNS} FROM words_{number} AS words CROSS JOIN log.events AS event ON event.seq = words.rowid "
            f"WHERE words.words_{number} MATCH ? AND words.rowid BETWEEN ? AND ?{condition} "
            "ORDER BY words.rowid DESC LIMIT ?"
        )
        return self._connection.execute(statement, (expression, first, upto, *values, count))
