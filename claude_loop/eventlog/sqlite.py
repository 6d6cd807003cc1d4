"""The durable log: SQLite in WAL mode, one writer thread, readers on connections of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from claude_loop.clock import Clock, SystemClock
from claude_loop.errors import Busy, ClaudeLoopError, LogDamaged
from claude_loop.eventlog import sqlite_blank, sqlite_reading, sqlite_upkeep
from claude_loop.eventlog.base import (
    Appended,
    Chain,
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
from claude_loop.eventlog.sqlite_commit import Append, Committed
from claude_loop.eventlog.sqlite_file import storage_error
from claude_loop.eventlog.sqlite_reading import Readers
from claude_loop.eventlog.sqlite_writer import Job, Writer
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter

T = TypeVar("T")
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
        self._readers = Readers(path, self._damage_was_read)
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
        await self._readers.close()  # first: who closes the file last moves the WAL into it
        await asyncio.to_thread(self._writer.stop)
        await asyncio.sleep(0)  # let the last announcements run: the writer queued them before it ended
        self._listener = nobody

    @property
    def state(self) -> LogState:
        return self._state

    @property
    def failure(self) -> ClaudeLoopError | None:
        return self._failure

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> asyncio.Future[list[Appended]]:
        return self._submit(len(events), events)

    def append_made(
        self,
        make: Callable[[], Sequence[Event]],
        most: int,
        offsets: Sequence[SpoolOffset] = (),
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]:
        return self._submit(most, make=make, offsets=offsets, chain=chain)

    def _submit(
        self,
        count: int,
        events: Sequence[Event] = (),
        offsets: Sequence[SpoolOffset] = (),
        make: Callable[[], Sequence[Event]] | None = None,
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]:
        chain = chain or Chain()
        place = chain.place()
        future: asyncio.Future[list[Appended]] = self._loop.create_future()
        if self._pending > MAX_PENDING:
            refusal = Busy(f"{self._pending} events wait to be written.")
            chain.break_at(place, refusal)
            future.set_exception(refusal)
            return future
        self._pending += count

        def answer(outcome: list[Appended] | ClaudeLoopError) -> None:
            self._pending -= count
            _resolve(future, outcome)

        self._writer.submit(Append(events, offsets, answer, count, make, chain, place))
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

    def _damage_was_read(self, damage: LogDamaged) -> None:
        self._writer.health.note_damage(damage)
        self._report_from_writer(damage)

    async def read(
        self, after: int, limit: int, filter_: Filter = MATCH_ALL, *, max_bytes: int | None = None
    ) -> ReadPage:
        head = self._state.head
        return await self._readers.ask(
            lambda connection: sqlite_reading.forwards(connection, after, head, limit, filter_, max_bytes=max_bytes)
        )

    async def search(
        self, after: int, limit: int, filter_: Filter, text: str, *, within: int | None = None
    ) -> ReadPage:
        head = self._state.head if within is None else min(self._state.head, after + within)
        return await self._readers.ask(
            lambda connection: sqlite_reading.forwards(connection, after, head, limit, filter_, text=text)
        )

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
        least = 0 if within is None else below - within
        return await self._readers.ask(
            lambda connection: sqlite_reading.backwards(connection, below, least, limit, filter_, text)
        )

    async def position_since(self, received_ms: int) -> int:
        first, last = self._state.first, self._state.head + 1
        return await self._readers.ask(
            lambda connection: sqlite_reading.position_since(connection, first, last, received_ms)
        )

    async def digest_at(self, seq: int) -> str | None:
        return await self._readers.ask(lambda connection: sqlite_reading.digest_at(connection, seq))

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        return await self._readers.ask(lambda connection: sqlite_reading.documents(connection, "read_model", prefix))

    async def snapshot(self, choose: Callable[[DocumentsAtOnce], T]) -> tuple[int, T]:
        return await self._readers.ask(lambda connection: sqlite_reading.snapshot(connection, choose))

    async def trimmed_entities(self, prefix: str) -> tuple[int, dict[str, dict[str, Any]]]:
        return await self._readers.ask(lambda connection: sqlite_reading.trimmed_documents(connection, prefix))

    async def spool_offsets(self) -> list[SpoolOffset]:
        statement = "SELECT name, inode, offset FROM spool_offsets"
        return await self._readers.ask(lambda connection: [SpoolOffset(*row) for row in connection.execute(statement)])

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
