"""The one writer: a thread that owns the write connection and commits what is queued in groups.

Under load many publishers share one fsync; alone, a publisher waits for nobody. Failures are answered, never
hidden: the transaction is rolled back, in-memory projections are dropped, and the connection is opened anew.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import ClaudeLoopError, Internal, LoadError, LogDamaged, LogGone, ShuttingDown
from claude_loop.eventlog.base import Appended, LogState, Projection, SpoolOffset, Stored
from claude_loop.eventlog.checkpoints import Checkpoints
from claude_loop.eventlog.facts import Facts
from claude_loop.eventlog.migrations import complete
from claude_loop.eventlog.numbering import EntityCache, Numbering
from claude_loop.eventlog.sqlite_file import (
    LogRow,
    has_room,
    open_writer,
    place_of,
    read_log_row,
    storage_error,
    write_log_row,
)
from claude_loop.eventlog.sqlite_rows import (
    find_by_id,
    find_recent,
    insert_events,
    insert_rows,
    keys_under,
    load_document,
    store_documents,
)
from claude_loop.events import Event

log = structlog.get_logger(__name__)

# A group this large takes a few tens of milliseconds: larger ones save little and delay everybody in them.
GROUP_EVENTS = 1024
PROBE_SECONDS = 1.0


@dataclass(slots=True)
class Append:
    """Events of one publisher, and where its answer goes."""

    events: Sequence[Event]
    offsets: Sequence[SpoolOffset]
    answer: Callable[[list[Appended] | ClaudeLoopError], None]


@dataclass(slots=True)
class Job:
    """Anything else the writer does between commits; ``run`` gets the writer."""

    run: Callable[[Writer], Any]
    answer: Callable[[Any], None]


class _Nothing:
    """Says that the queue is empty; None in the queue says stop."""


_NOTHING = _Nothing()


@dataclass(slots=True)
class Committed:
    """What one turn of the writer leaves to be announced: new events, the state after, the answers, and the documents
    that were stored with the events."""

    events: list[Event] = field(default_factory=list)
    state: LogState | None = None
    answers: list[Callable[[], None]] = field(default_factory=list)
    documents: Stored = field(default_factory=dict)


class Writer:
    """Runs in its own thread from ``start`` to ``stop``; everything below ``submit`` belongs to that thread."""

    def __init__(
        self,
        path: Path,
        projection: Projection,
        clock: Clock,
        durability: str,
        announce: Callable[[Committed], None],
        report: Callable[[ClaudeLoopError | None], None],
    ) -> None:
        self._path = path
        self._projection = projection
        self._clock = clock
        self._durability = durability
        self._announce = announce
        self._report = report
        self._queue: queue.SimpleQueue[Append | Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="eventlog-writer", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._checkpoints: Checkpoints | None = None
        self._place: tuple[int, int] | None = None
        self._failure: ClaudeLoopError | None = None
        self.row: LogRow
        self.cache = EntityCache(self._load_document, keys_under=self._keys_under)
        self._facts = Facts(lambda *wanted: find_recent(self.connection, *wanted))
        self.damage: ClaudeLoopError | None = None
        self.commits = 0
        self.commit_ms: deque[float] = deque(maxlen=1000)

    def open(self) -> LogRow:
        """Open the file (in the caller's thread, which then must not touch it again) and start the thread."""
        try:
            self._connect()
            complete(self.connection, self._projection.first_values)
        except BaseException:
            self._disconnect()
            raise
        self._thread.start()
        return self.row

    def submit(self, request: Append | Job) -> None:
        self._queue.put(request)

    def stop(self) -> None:
        """Finish what is queued, mark the stop as clean, close. Blocks."""
        self._queue.put(None)
        self._thread.join()

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connect()
        assert self._connection is not None  # noqa: S101 - for the type checker: _connect sets it or raises
        return self._connection

    def _connect(self) -> None:
        self._insist_on_place()
        self._connection, self.row = open_writer(self._path, self._clock, self._durability)
        self._checkpoints = Checkpoints(self._path, self._durability)
        self._place = place_of(self._path)

    def _load_document(self, key: str) -> dict[str, Any] | None:
        return load_document(self.connection, "read_model", key)

    def _keys_under(self, prefix: str) -> list[str]:
        return keys_under(self.connection, "read_model", prefix)

    def _run(self) -> None:
        try:
            self._work()
        except Exception as failure:  # a defect of ours: nothing is stored from now on, which has to show
            self._report(Internal(f"The event log's writer has ended: {failure}."))
            log.exception("the event log's writer has ended")

    def _work(self) -> None:
        running = True
        while running:
            try:
                first = self._queue.get(timeout=PROBE_SECONDS if self._failure else None)
            except queue.Empty:
                self._probe()
                continue
            running = self._turn(first)
        self._close()

    def _turn(self, request: Append | Job | _Nothing | None) -> bool:
        """Serve one group or one job; False when it was time to stop."""
        while isinstance(request, Append):
            group = [request]
            size = len(request.events)
            request = self._next_waiting()
            while isinstance(request, Append) and size < GROUP_EVENTS:
                group.append(request)
                size += len(request.events)
                request = self._next_waiting()
            self._serve(group)
        if request is _NOTHING:
            return True
        if isinstance(request, Job):
            self._do(request)
            return True
        return False

    def _next_waiting(self) -> Append | Job | _Nothing | None:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return _NOTHING

    def note_damage(self, failure: ClaudeLoopError) -> None:
        """A reader has found the file damaged. From any thread."""
        self.damage = self.damage or failure

    def _insist_on_soundness(self) -> None:
        """What is known to be damaged is not written to any more: it would spread, and it is all that can be saved."""
        if self.damage is not None:
            raise self.damage
        self._insist_on_place()

    def _insist_on_place(self) -> None:
        """SQLite goes on writing to a file that was deleted or moved: what is stored there nobody finds again."""
        if self._place is not None and place_of(self._path) != self._place:
            raise LogGone(f"{self._path.name} was moved or deleted while the daemon has it open.")

    def _do(self, job: Job) -> None:
        try:
            self._insist_on_soundness()
            result = job.run(self)
        except (sqlite3.Error, OSError, LogGone) as failure:
            result = self._failed(failure)
        except ClaudeLoopError as failure:
            result = failure
        except Exception:
            log.exception("a job of the event log failed")
            self.cache.discard()
            self._disconnect()
            result = Internal("The event log could not do this.")
        job.answer(result)

    def _serve(self, group: list[Append]) -> None:
        started = time.perf_counter()
        try:
            self._insist_on_soundness()
            committed = self._commit(group)
        except (sqlite3.Error, OSError, LoadError) as failure:
            error = self._failed(failure)
            committed = Committed(answers=[_answering(append, error) for append in group])
        except Exception as failure:  # a defect of ours, in one event: the others of the group must not pay for it
            self.cache.discard()
            self._disconnect()
            if len(group) > 1:
                for append in group:
                    self._serve([append])
                return
            log.exception("a batch could not be stored")
            defect = Internal(f"The events could not be stored: {failure}.")
            committed = Committed(answers=[_answering(group[0], defect)])
        else:
            self._recovered()
            if committed.events:
                self.commits += 1
                self.commit_ms.append((time.perf_counter() - started) * 1000)
        self._announce(committed)

    def _commit(self, group: list[Append]) -> Committed:
        connection = self.connection
        received_at = max(self.row.received_at, self._clock.now_us() // 1000)
        numbering = Numbering(
            self.row.state,
            received_at,
            lambda ids: find_by_id(connection, ids),
            self._facts,
            self._projection,
            self.cache,
        )
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = numbering.number([append.events for append in group])
            row = self._write(connection, numbering.new, group, received_at)
        except BaseException:
            numbering.undo()
            raise
        try:
            connection.execute("COMMIT" if row is not None else "ROLLBACK")
        except sqlite3.Error:
            if row is None or not self._outcome_known_as(row):
                numbering.undo()
                raise
        documents = self.cache.dirty
        if row is not None:
            self.row = row
            self.cache.committed()
            if self._checkpoints is not None:
                self._checkpoints.committed(len(numbering.new))
        answers = [_answering(append, outcome) for append, outcome in zip(group, outcomes, strict=True)]
        return Committed(numbering.new, self.row.state, answers, documents)

    def _write(
        self, connection: sqlite3.Connection, new: list[Event], group: list[Append], received_at: int
    ) -> LogRow | None:
        """Everything one commit holds; None when there is nothing to commit."""
        offsets = [offset for append in group for offset in append.offsets]
        if not new and not offsets:
            return None
        insert_events(connection, new)
        store_documents(connection, "read_model", self.cache.dirty)
        _store_offsets(connection, offsets)
        row = self.row.after(new, received_at)
        write_log_row(connection, row)
        return row

    def _outcome_known_as(self, expected: LogRow) -> bool:
        """After an error at COMMIT nobody knows whether it took place: open the file anew and look."""
        self._disconnect()
        with contextlib.suppress(sqlite3.Error, OSError, LogGone):  # still broken: reported by whoever asks next
            self._connect()
            return read_log_row(self.connection).state == expected.state
        return False

    def _failed(self, failure: sqlite3.Error | OSError | LoadError) -> ClaudeLoopError:
        error = failure if isinstance(failure, LoadError) else storage_error(failure, self._path)
        if isinstance(error, LogDamaged):
            self.note_damage(error)
        if self._failure is None or self._failure.code != error.code:
            log.error("the event log cannot be written", code=error.code, reason=str(failure))
        self._failure = error
        self._report(error)
        self.cache.discard()
        if not isinstance(error, LogGone):  # it may come back, and until then it is all there is
            self._disconnect()
        return error

    def _recovered(self) -> None:
        if self._failure is not None:
            log.info("the event log can be written again", after=self._failure.code)
            self._failure = None
            self._report(None)

    def _probe(self) -> None:
        """While the storage fails, try a small write now and then: recovery needs no publisher."""
        try:
            if self.damage is not None:
                return
            self._insist_on_place()
            if not has_room(self._path):
                return
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            write_log_row(connection, self.row)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError, LogGone) as failure:
            self._failed(failure)
        else:
            self._recovered()

    def _disconnect(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):  # it is being thrown away because it failed
                self._connection.close()
            self._connection = None

    def _close(self) -> None:
        while (left := self._next_waiting()) is not _NOTHING:
            refusal = ShuttingDown("The daemon is stopping.")
            if isinstance(left, Append):
                self._announce(Committed(answers=[_answering(left, refusal)]))
            elif isinstance(left, Job):
                left.answer(refusal)
        try:
            self._insist_on_soundness()
            self.row = replace(self.row, clean=True)
            write_log_row(self.connection, self.row)
        except (sqlite3.Error, OSError, ClaudeLoopError) as failure:
            log.exception("the event log could not be closed cleanly", reason=str(failure))
        self._disconnect()


def _answering(append: Append, outcome: list[Appended] | ClaudeLoopError) -> Callable[[], None]:
    return lambda: append.answer(outcome)


def _store_offsets(connection: sqlite3.Connection, offsets: list[SpoolOffset]) -> None:
    latest = {(offset.name, offset.inode): offset for offset in offsets}
    kept = [value for offset in latest.values() if offset.offset is not None for value in offset]
    insert_rows(connection, "INSERT OR REPLACE INTO spool_offsets (name, inode, offset)", 3, kept)
    for name, inode, offset in latest.values():
        if offset is None:
            connection.execute("DELETE FROM spool_offsets WHERE name = ? AND inode = ?", (name, inode))
