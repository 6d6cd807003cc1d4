"""One commit of events.db: what publishers have sent, numbered and folded, as one transaction stores it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial

from claude_loop.errors import ClaudeLoopError
from claude_loop.eventlog.base import Appended, Chain, LogState, SpoolOffset, Stored
from claude_loop.eventlog.numbering import Numbering
from claude_loop.eventlog.sqlite_file import LogRow, write_log_row
from claude_loop.eventlog.sqlite_rows import insert_events, insert_rows, store_documents
from claude_loop.events import Event


class OutcomeUnknown(Exception):
    """COMMIT has failed, and may have taken place all the same. The cause is SQLite's own error."""


class EarlierCommitFailed(sqlite3.Error):
    """What was being numbered rests on a commit that was not stored."""


@dataclass(slots=True)
class Append:
    """Events of one publisher, and where its answer goes. ``make`` makes them if they are not there yet."""

    events: Sequence[Event]
    offsets: Sequence[SpoolOffset]
    answer: Callable[[list[Appended] | ClaudeLoopError], None]
    count: int
    """How many events there are, or will be at most."""
    make: Callable[[], Sequence[Event]] | None
    chain: Chain
    place: int

    def made(self) -> None:
        """Let the events be there. Raises whatever ``make`` does, and what has broken the chain before."""
        self.chain.insist(self.place)
        if self.make is not None:
            self.events = self.make()
            self.make = None


@dataclass(slots=True)
class Committed:
    """What one turn of the writer leaves to be announced: new events, the state after, the answers, and the documents
    that were stored with the events."""

    events: list[Event] = field(default_factory=list)
    state: LogState | None = None
    answers: Sequence[Callable[[], None]] = ()
    documents: Stored = field(default_factory=dict)


@dataclass
class Commit:
    """A group of appends, ready to be stored; ``row`` is the log's row afterwards."""

    group: Sequence[Append]
    numbering: Numbering
    outcomes: list[list[Appended]]
    documents: Stored
    row: LogRow
    started: float
    """When its turn came, by ``perf_counter``."""

    @property
    def new(self) -> list[Event]:
        return self.numbering.new

    @property
    def offsets(self) -> list[SpoolOffset]:
        return [offset for append in self.group for offset in append.offsets]

    @cached_property
    def by_id(self) -> dict[str, Event]:
        return {event.id: event for event in self.new}

    def store(self, connection: sqlite3.Connection) -> None:
        """Raises ``sqlite3.Error``, and then leaves the transaction open; ``OutcomeUnknown`` at its very end."""
        offsets = self.offsets
        if not self.new and not offsets:
            return
        connection.execute("BEGIN IMMEDIATE")
        insert_events(connection, self.new)
        store_documents(connection, "read_model", self.documents)
        store_offsets(connection, offsets)
        write_log_row(connection, self.row)
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as failure:
            raise OutcomeUnknown from failure

    def announcement(self) -> Committed:
        answers = [partial(a.answer, outcome) for a, outcome in zip(self.group, self.outcomes, strict=True)]
        return Committed(self.new, self.row.state, answers, self.documents)


class Lane:
    """Stores one commit at a time in a thread of its own, while the next is being numbered."""

    def __init__(self, attempt: Callable[[Commit], Exception | None]) -> None:
        """``attempt`` stores a commit, or returns why it could not."""
        self._attempt = attempt
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="eventlog-storage")
        self._storing: Future[Exception | None] = Future()
        self.commit: Commit | None = None
        """The commit under way, until it is taken."""

    def open(self) -> None:
        """Begin the thread, now: where there is no room for one, it must not be a commit that meets that."""
        self._thread.submit(int).result()

    def start(self, commit: Commit) -> None:
        """The one before must have been taken."""
        self._storing = self._thread.submit(self._attempt, commit)
        self.commit = commit

    def insist(self) -> None:
        """Block until the commit under way, if one is, has been stored. Raises ``EarlierCommitFailed``."""
        if self.commit is not None and self._storing.result() is not None:
            raise EarlierCommitFailed

    def take(self) -> tuple[Commit, Exception | None] | None:
        """The commit under way and why it was not stored, if it was not; None if there is none. Blocks until then."""
        commit, self.commit = self.commit, None
        storing, self._storing = self._storing, Future()
        return None if commit is None else (commit, storing.result())

    def close(self) -> None:
        """Blocks until what is under way is stored, or has failed."""
        self._thread.shutdown()


def store_offsets(connection: sqlite3.Connection, offsets: Sequence[SpoolOffset]) -> None:
    """How far the spool's files have been read; the last word on each counts."""
    latest = {(offset.name, offset.inode): offset for offset in offsets}
    kept = [value for offset in latest.values() if offset.offset is not None for value in offset]
    insert_rows(connection, "INSERT OR REPLACE INTO spool_offsets (name, inode, offset)", 3, kept)
    for name, inode, offset in latest.values():
        if offset is None:
            connection.execute("DELETE FROM spool_offsets WHERE name = ? AND inode = ?", (name, inode))
