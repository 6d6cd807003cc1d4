"""The durable log: SQLite in WAL mode, one writer thread, readers on connections of their own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import orjson

from claude_loop.clock import Clock, SystemClock
from claude_loop.errors import Busy, ClaudeLoopError, LogDamaged, StorageFailed
from claude_loop.eventlog import sqlite_blank, sqlite_upkeep
from claude_loop.eventlog.base import (
    Appended,
    CommitListener,
    DocumentListener,
    DocumentsAtOnce,
    LogState,
    NoProjection,
    Projection,
    ReadPage,
    SpoolOffset,
    no_watcher,
    nobody,
)
from claude_loop.eventlog.sqlite_file import open_reader, storage_error
from claude_loop.eventlog.sqlite_rows import COLUMNS, event_from_row, load_document, prefix_range, where
from claude_loop.eventlog.sqlite_writer import Append, Committed, Job, Writer
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.ids import id_digest

T = TypeVar("T")
READERS = 2
# Publishers are told to wait when this many events are queued for the writer: about two seconds of its work.
MAX_PENDING = 65_536


class SqliteEventLog:
    """An ``EventLog`` in one file. The caller makes sure that no other process writes it."""

    def __init__(
        self, path: Path, projection: Projection | None = None, clock: Clock | None = None, durability: str = "full"
    ) -> None:
        self.projection: Projection = projection or NoProjection()
        self.on_documents: DocumentListener = no_watcher
        self._path = path
        self._writer = Writer(
            path, self.projection, clock or SystemClock(), durability, self._from_writer, self._report_from_writer
        )
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="eventlog-reader")
        self._connections: list[sqlite3.Connection] = []
        self._per_thread = threading.local()
        self._listener: CommitListener = nobody
        self._failure: ClaudeLoopError | None = None
        self._pending = 0
        self._state: LogState
        self._loop: asyncio.AbstractEventLoop

    async def open(self, listener: CommitListener) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        opening = self._loop.run_in_executor(None, self._writer.open)
        try:
            self._state = (await asyncio.shield(opening)).state
        except (sqlite3.Error, OSError) as failure:
            raise storage_error(failure, self._path) from failure
        except asyncio.CancelledError:
            await asyncio.wait([opening])  # the thread goes on; nobody would close what it opens
            if opening.exception() is None:
                await self.close()
            raise

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.stop)
        await asyncio.sleep(0)  # let the last announcements run: the writer queued them before it ended
        connections, self._connections = self._connections, []  # closing twice is harmless
        for connection in connections:
            connection.interrupt()  # a search through all of a large log may take long
        await asyncio.to_thread(self._readers.shutdown, wait=True, cancel_futures=True)
        for connection in connections:
            connection.close()
        self._listener = nobody

    @property
    def state(self) -> LogState:
        return self._state

    @property
    def failure(self) -> ClaudeLoopError | None:
        return self._failure

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, events: Sequence[Event], offsets: Sequence[SpoolOffset] = ()) -> asyncio.Future[list[Appended]]:
        future: asyncio.Future[list[Appended]] = self._loop.create_future()
        if self._pending > MAX_PENDING:
            future.set_exception(Busy(f"{self._pending} events wait to be written."))
            return future
        self._pending += len(events)

        def answer(outcome: list[Appended] | ClaudeLoopError) -> None:
            self._pending -= len(events)
            _resolve(future, outcome)

        self._writer.submit(Append(events, offsets, answer))
        return future

    def _from_writer(self, committed: Committed) -> None:
        self._loop.call_soon_threadsafe(self._announce, committed)

    def _announce(self, committed: Committed) -> None:
        if committed.state is not None and committed.events:
            self._state = committed.state
            self.on_documents(committed.documents, committed.state)
            self._listener(committed.events, committed.state)
        for answer in committed.answers:
            answer()

    def _report_from_writer(self, failure: ClaudeLoopError | None) -> None:
        self._loop.call_soon_threadsafe(self._report, failure)

    def _report(self, failure: ClaudeLoopError | None) -> None:
        self._failure = failure

    async def _job(self, run: Callable[[Writer], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()

        def answer(result: T | ClaudeLoopError) -> None:
            self._loop.call_soon_threadsafe(_resolve, future, result)

        self._writer.submit(Job(run, answer))
        return await future

    async def prune(self, keep_from_ms: int, keep_events: int, step: int) -> int:
        def run(writer: Writer) -> int:
            gone, writer.row = sqlite_upkeep.prune(
                writer.connection, writer.row, self.projection, keep_from_ms, keep_events, step
            )
            if gone:
                # Announced from the writer, so that it keeps its place among the commits.
                self._loop.call_soon_threadsafe(self._announce_pruning, writer.row.state)
            return gone

        return await self._job(run)

    def _announce_pruning(self, state: LogState) -> None:
        self._state = state
        self._listener([], state)

    async def blank(self, step: int) -> bool:
        return await self._job(lambda writer: sqlite_blank.blank(writer.connection, self.projection, step))

    async def rebuild(self) -> int:
        def run(writer: Writer) -> int:
            writer.cache.discard()
            return sqlite_upkeep.rebuild(writer.connection, writer.row, self.projection)

        return await self._job(run)

    # -- reading -------------------------------------------------------------------------------------------------

    async def _reading(self, run: Callable[[sqlite3.Connection], T]) -> T:
        return await self._loop.run_in_executor(self._readers, self._read_with, run)

    def _read_with(self, run: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection: sqlite3.Connection | None = getattr(self._per_thread, "connection", None)
            if connection is None:
                connection = self._per_thread.connection = open_reader(self._path)
                self._connections.append(connection)
            return run(connection)
        except sqlite3.Error as failure:
            error = storage_error(failure, self._path)
            if isinstance(error, LogDamaged):
                self._writer.note_damage(error)
                self._report_from_writer(error)
                raise error from failure
            raise StorageFailed(f"The event log cannot be read: {failure}.") from failure

    async def read(
        self, after: int, limit: int, filter_: Filter = MATCH_ALL, *, max_bytes: int | None = None
    ) -> ReadPage:
        return await self._forwards(after, limit, filter_, max_bytes, None, None)

    async def search(
        self, after: int, limit: int, filter_: Filter, text: str, *, within: int | None = None
    ) -> ReadPage:
        return await self._forwards(after, limit, filter_, None, text, within)

    async def _forwards(
        self, after: int, limit: int, filter_: Filter, max_bytes: int | None, text: str | None, within: int | None
    ) -> ReadPage:
        head = self._state.head if within is None else min(self._state.head, after + within)
        condition, values = where(filter_, text)
        statement = f"SELECT {COLUMNS} FROM events WHERE seq > ? AND seq <= ?{condition} ORDER BY seq LIMIT ?"

        def run(connection: sqlite3.Connection) -> ReadPage:
            # One transaction, so that the events and the trim edge are of the same moment.
            connection.execute("BEGIN")
            try:
                (first,) = connection.execute("SELECT first FROM log").fetchone()
                rows = connection.execute(statement, (after, head, *values, limit))
                events, full = _take(rows, limit, max_bytes)
            finally:
                connection.execute("COMMIT")
            return ReadPage(events, events[-1].seq if full else max(after, head), first)

        return await self._reading(run)

    async def read_backwards(
        self,
        before: int | None,
        limit: int,
        filter_: Filter = MATCH_ALL,
        *,
        text: str | None = None,
        within: int | None = None,
    ) -> list[Event]:
        below = self._state.head + 1 if before is None else min(before, self._state.head + 1)
        condition, values = where(filter_, text)
        statement = f"SELECT {COLUMNS} FROM events WHERE seq < ? AND seq >= ?{condition} ORDER BY seq DESC LIMIT ?"
        least = 0 if within is None else below - within

        def run(connection: sqlite3.Connection) -> list[Event]:
            return [event_from_row(row) for row in connection.execute(statement, (below, least, *values, limit))]

        return await self._reading(run)

    async def position_since(self, received_ms: int) -> int:
        low, high = self._state.first, self._state.head + 1

        def run(connection: sqlite3.Connection) -> int:
            # `received_at` never decreases and `seq` has no gaps: a binary search needs no index.
            first, last = low, high
            while first < last:
                middle = (first + last) // 2
                row = connection.execute("SELECT received_at FROM events WHERE seq = ?", (middle,)).fetchone()
                if row is None or row[0] < received_ms:  # None: pruned meanwhile, so older than what is kept
                    first = middle + 1
                else:
                    last = middle
            return first - 1

        return await self._reading(run)

    async def digest_at(self, seq: int) -> str | None:
        def run(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT id FROM events WHERE seq = ?", (seq,)).fetchone()
            if row is not None:
                return id_digest(row[0])
            first, digest = connection.execute("SELECT first, trimmed_digest FROM log").fetchone()
            return digest if seq == first - 1 else None

        return await self._reading(run)

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        return await self._reading(lambda connection: _documents(connection, "read_model", prefix))

    async def snapshot(self, choose: Callable[[DocumentsAtOnce], T]) -> tuple[int, T]:
        def run(connection: sqlite3.Connection) -> tuple[int, T]:
            connection.execute("BEGIN")
            try:
                (head,) = connection.execute("SELECT head FROM log").fetchone()
                return head, choose(_Documents(connection))
            finally:
                connection.execute("COMMIT")

        return await self._reading(run)

    async def trimmed_entities(self, prefix: str) -> tuple[int, dict[str, dict[str, Any]]]:
        def run(connection: sqlite3.Connection) -> tuple[int, dict[str, dict[str, Any]]]:
            connection.execute("BEGIN")
            try:
                (first,) = connection.execute("SELECT first FROM log").fetchone()
                return first - 1, _documents(connection, "trimmed_model", prefix)
            finally:
                connection.execute("COMMIT")

        return await self._reading(run)

    async def spool_offsets(self) -> list[SpoolOffset]:
        def run(connection: sqlite3.Connection) -> list[SpoolOffset]:
            return [SpoolOffset(*row) for row in connection.execute("SELECT name, inode, offset FROM spool_offsets")]

        return await self._reading(run)

    async def statistics(self) -> dict[str, Any]:
        durations = sorted(self._writer.commit_ms)
        state = self._state
        size = sum(p.stat().st_size for p in (self._path, self._path.with_name(self._path.name + "-wal")) if p.exists())
        return {
            "events": state.head - state.first + 1,
            "bytes": size,
            "commits": self._writer.commits,
            "commit_ms": _percentiles(durations) if durations else None,
            "pending": self._pending,
        }


class _Documents:
    """``DocumentsAtOnce`` inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, key: str) -> dict[str, Any] | None:
        return load_document(self._connection, "read_model", key)

    def under(self, prefix: str) -> dict[str, dict[str, Any]]:
        return _documents(self._connection, "read_model", prefix)


def _documents(connection: sqlite3.Connection, table: str, prefix: str) -> dict[str, dict[str, Any]]:
    statement, values = f"SELECT key, document FROM {table}", ()
    if prefix:
        statement += " WHERE key >= ? AND key < ?"
        values = prefix_range(prefix)  # type: ignore[assignment]
    rows = connection.execute(f"{statement} ORDER BY key", values)
    return {key: orjson.loads(document) for key, document in rows}


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


def _percentiles(ordered: list[float]) -> dict[str, float]:
    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {"p50": at(0.5), "p99": at(0.99), "max": round(ordered[-1], 3)}


def _resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():  # its waiter was cancelled
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
