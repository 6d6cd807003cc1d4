"""Defects put into the daemon on purpose, one at a time: a runner that passes one of them proves nothing.

Each is applied by replacing a function before the daemon starts, and names the scenario that must catch it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    name: str
    caught_by: str
    apply: Callable[[], None]


def on_opening(statement: str) -> None:
    """Have the log's writer execute ``statement`` as well, each time it has opened the database."""
    from claude_loop.eventlog import sqlite_writer

    real = sqlite_writer.open_writer

    def open_writer(*arguments: Any) -> Any:
        connection, row = real(*arguments)
        connection.execute(statement)
        return connection, row

    sqlite_writer.open_writer = open_writer


def offset_outside_transaction() -> None:
    """Offsets are committed before the events they stand for."""
    from claude_loop.eventlog import sqlite_commit

    real = sqlite_commit.Commit.store

    def store(commit: sqlite_commit.Commit, connection: Any) -> None:
        sqlite_commit.store_offsets(connection, commit.offsets)
        real(commit, connection)

    sqlite_commit.Commit.store = store  # type: ignore[method-assign]


def synchronous_off() -> None:
    """Neither a commit nor a checkpoint waits for the disk."""
    from claude_loop.eventlog import checkpoints

    on_opening("PRAGMA synchronous = OFF")
    # Where checkpoints wait for it they take the commits before them along, and a third of the runs lose nothing.
    real = checkpoints.open_checkpointer

    def open_checkpointer(*arguments: Any) -> Any:
        connection = real(*arguments)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    checkpoints.open_checkpointer = open_checkpointer


def announce_before_commit() -> None:
    """Readers are told of events that are not committed yet."""
    from claude_loop.eventlog import sqlite, sqlite_commit, sqlite_writer

    real = sqlite_writer.Writer._attempt
    later = sqlite.SqliteEventLog._announce

    def attempt(writer: sqlite_writer.Writer, commit: sqlite_commit.Commit) -> Exception | None:
        writer._announce(sqlite_commit.Committed(list(commit.new), commit.row.state))
        return real(writer, commit)

    def announce(log: sqlite.SqliteEventLog, committed: Any) -> None:
        committed.events = [event for event in committed.events if event.seq > log._state.head]
        if not committed.events:
            for answer in committed.answers:
                answer()
            return
        later(log, committed)

    sqlite_writer.Writer._attempt = attempt  # type: ignore[method-assign]
    sqlite.SqliteEventLog._announce = announce  # type: ignore[method-assign]


def resume_off_by_one() -> None:
    """A reader that resumes gets the last event it has already seen."""
    from claude_loop.hub import Hub
    from claude_loop.ids import Cursor

    real = Hub._resume

    async def resume(hub: Hub, filter_: Any, cursor: Cursor) -> Any:
        opened = await real(hub, filter_, cursor)
        if opened.status == "resumed" and cursor.seq > hub.state.first:
            opened.subscription.cursor = await hub.cursor_at(cursor.seq - 1)
        return opened

    Hub._resume = resume  # type: ignore[method-assign]


def delete_without_claim() -> None:
    """A quiet spool file that has been read is removed where it is: no rename, no lease, no last look."""
    from claude_loop.intake.spool_leaving import Leaving

    async def rename_quiet(leaving: Leaving) -> None:
        now = leaving._clock.monotonic()
        for file in list(leaving._table.spool.values()):
            if file.is_read and leaving._is_quiet(file, now):
                leaving._files.remove("spool", file.name)
                leaving._table.forget(file)

    Leaving.rename_quiet = rename_quiet  # type: ignore[method-assign]


def dedupe_removed() -> None:
    """What is sent again is stored again."""
    from claude_loop.eventlog import sqlite_lookups

    on_opening("DROP INDEX IF EXISTS events_by_id")
    sqlite_lookups.find_by_id = lambda _connection, _ids: {}


def unbounded_queue() -> None:
    """Nobody waits for a client to take what it was sent."""
    from claude_loop.transports import engineio_socket

    async def drained(_socket: Any) -> None:
        return None

    engineio_socket.LoopSocket.drained = drained  # type: ignore[method-assign]
    engineio_socket.MAX_QUEUED = engineio_socket.MAX_QUEUED_BYTES = 10**12


MUTANTS = (
    Mutant("offset-outside-transaction", "labels", offset_outside_transaction),
    Mutant("synchronous-off", "power", synchronous_off),
    Mutant("announce-before-commit", "labels", announce_before_commit),
    Mutant("resume-off-by-one", "resume", resume_off_by_one),
    Mutant("delete-without-claim", "claim", delete_without_claim),
    Mutant("dedupe-removed", "retry", dedupe_removed),
    Mutant("unbounded-queue", "slow", unbounded_queue),
)


def apply(name: str) -> None:
    {mutant.name: mutant for mutant in MUTANTS}[name].apply()
