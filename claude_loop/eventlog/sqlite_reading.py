"""The reading side of the log's file: threads with a connection each, and what they are asked.

A question is a function of a connection. Those that look twice do it in one transaction, so that all they see is of the
same moment.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import orjson

from claude_loop.errors import LogDamaged, StorageFailed
from claude_loop.eventlog.base import ReadPage
from claude_loop.eventlog.sqlite_file import open_reader, storage_error
from claude_loop.eventlog.sqlite_rows import COLUMNS, event_from_row, load_document, prefix_range, where
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.ids import id_digest

T = TypeVar("T")
READERS = 2


class Readers:
    """``on_damage`` is called, in a reader's thread, when the file turns out to be damaged."""

    def __init__(self, path: Path, on_damage: Callable[[LogDamaged], None]) -> None:
        self._path = path
        self._on_damage = on_damage
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="eventlog-reader")
        self._connections: list[sqlite3.Connection] = []
        self._per_thread = threading.local()

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """The answer. Raises ``LogDamaged`` and ``StorageFailed``."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)

    async def close(self) -> None:
        for connection in list(self._connections):
            connection.interrupt()  # a search through all of a large log may take long
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        while self._connections:  # with one that was opened meanwhile; closing twice is harmless
            self._connections.pop().close()

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._per_thread, "connection", None)
            if connection is None:
                connection = self._per_thread.connection = open_reader(self._path)
                self._connections.append(connection)
            return question(connection)
        except sqlite3.Error as failure:
            error = storage_error(failure, self._path)
            if isinstance(error, LogDamaged):
                self._on_damage(error)
                raise error from failure
            raise StorageFailed(f"The event log cannot be read: {failure}.") from failure


# -- events ------------------------------------------------------------------------------------------------------------


def forwards(
    connection: sqlite3.Connection,
    after: int,
    head: int,
    limit: int,
    filter_: Filter,
    *,
    text: str | None = None,
    max_bytes: int | None = None,
) -> ReadPage:
    condition, values = where(filter_, text)
    statement = f"SELECT {COLUMNS} FROM events WHERE seq > ? AND seq <= ?{condition} ORDER BY seq LIMIT ?"
    with _at_once(connection):
        (first,) = connection.execute("SELECT first FROM log").fetchone()
        rows = connection.execute(statement, (after, head, *values, limit))
        events, full = _take(rows, limit, max_bytes)
    return ReadPage(events, events[-1].seq if full else max(after, head), first)


def backwards(
    connection: sqlite3.Connection, below: int, least: int, limit: int, filter_: Filter, text: str | None
) -> list[Event]:
    condition, values = where(filter_, text)
    statement = f"SELECT {COLUMNS} FROM events WHERE seq < ? AND seq >= ?{condition} ORDER BY seq DESC LIMIT ?"
    return [event_from_row(row) for row in connection.execute(statement, (below, least, *values, limit))]


def position_since(connection: sqlite3.Connection, first: int, last: int, received_ms: int) -> int:
    """``received_at`` never decreases and ``seq`` has no gaps: a binary search needs no index."""
    while first < last:
        middle = (first + last) // 2
        row = connection.execute("SELECT received_at FROM events WHERE seq = ?", (middle,)).fetchone()
        if row is None or row[0] < received_ms:  # None: pruned meanwhile, so older than what is kept
            first = middle + 1
        else:
            last = middle
    return first - 1


def digest_at(connection: sqlite3.Connection, seq: int) -> str | None:
    row = connection.execute("SELECT id FROM events WHERE seq = ?", (seq,)).fetchone()
    if row is not None:
        return id_digest(row[0])
    first, digest = connection.execute("SELECT first, trimmed_digest FROM log").fetchone()
    return digest if seq == first - 1 else None


def _take(rows: sqlite3.Cursor, limit: int, max_bytes: int | None) -> tuple[list[Event], bool]:
    """Events up to the bounds, and whether a bound ended them rather than the rows."""
    events: list[Event] = []
    size = 0
    for row in rows:
        size += len(row[-1])
        if events and max_bytes is not None and size > max_bytes:
            rows.close()
            return events, True
        events.append(event_from_row(row))
    return events, len(events) == limit


# -- documents ---------------------------------------------------------------------------------------------------------


class Documents:
    """``DocumentsAtOnce`` inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, key: str) -> dict[str, Any] | None:
        return load_document(self._connection, "read_model", key)

    def under(self, prefix: str) -> dict[str, dict[str, Any]]:
        return documents(self._connection, "read_model", prefix)


def documents(connection: sqlite3.Connection, table: str, prefix: str) -> dict[str, dict[str, Any]]:
    condition, values = (" WHERE key >= ? AND key < ?", prefix_range(prefix)) if prefix else ("", ())
    rows = connection.execute(f"SELECT key, document FROM {table}{condition} ORDER BY key", values)
    return {key: orjson.loads(document) for key, document in rows}


def snapshot(connection: sqlite3.Connection, choose: Callable[[Documents], T]) -> tuple[int, T]:
    with _at_once(connection):
        (head,) = connection.execute("SELECT head FROM log").fetchone()
        return head, choose(Documents(connection))


def trimmed_documents(connection: sqlite3.Connection, prefix: str) -> tuple[int, dict[str, dict[str, Any]]]:
    with _at_once(connection):
        (first,) = connection.execute("SELECT first FROM log").fetchone()
        return first - 1, documents(connection, "trimmed_model", prefix)


@contextmanager
def _at_once(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
