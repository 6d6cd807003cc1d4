"""events.db as a file: how it is opened, its one-row table of positions, and what its failures mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import LoadError, LogDamaged, StorageFailed, StorageFull, StorageReadOnly
from claude_loop.eventlog.base import LogState
from claude_loop.eventlog.migrations import migrate
from claude_loop.eventlog.sqlite_rows import CACHED_STATEMENTS
from claude_loop.events import Event
from claude_loop.ids import NO_EVENT, id_digest, new_epoch
from claude_loop.paths import make_private

log = structlog.get_logger(__name__)

# Below this much free space a commit may fail half-way into a file that then cannot grow.
ROOM_BYTES = 1024 * 1024
_BUSY_MS = 5000
# The commit that makes the WAL longer than this (64 MiB) moves it into the file itself; see checkpoints.py.
LONGEST_WAL_PAGES = 16_000
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class LogRow:
    """The single row of table ``log``."""

    state: LogState
    received_at: int
    clean: bool
    durability: str

    def after(self, new: Sequence[Event], received_at: int) -> LogRow:
        """The row once ``new`` has been appended."""
        if not new:
            return self
        last = new[-1]
        state = replace(self.state, head=last.seq, head_digest=id_digest(last.id))
        return replace(self, state=state, received_at=received_at)


def open_writer(path: Path, clock: Clock, durability: str) -> tuple[sqlite3.Connection, LogRow]:
    """The write connection and the row, created if need be and marked as in use.

    Raises ``sqlite3.Error``, ``OSError``, ``NewerLog``.
    """
    make_private(path)
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_MS / 1000,
        cached_statements=CACHED_STATEMENTS,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_synchronous(durability))
        connection.execute("PRAGMA cache_size = -8192")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LONGEST_WAL_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        migrate(connection)
        row = _row_in_use(connection, clock, durability)
    except BaseException:
        connection.close()
        raise
    return connection, row


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cache_size = -4096")
    return connection


def open_checkpointer(path: Path, durability: str) -> sqlite3.Connection:
    """A connection for checkpoints of the WAL alone. Raises ``sqlite3.Error``."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute(_synchronous(durability))
    return connection


def _synchronous(durability: str) -> str:
    return f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}"


def _row_in_use(connection: sqlite3.Connection, clock: Clock, durability: str) -> LogRow:
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("SELECT 1 FROM log").fetchone()
    if found is None:
        digest = id_digest(NO_EVENT)
        row = LogRow(LogState(new_epoch(clock), 1, 0, digest, digest), 0, clean=False, durability=durability)
    else:
        row = read_log_row(connection)
        if not row.clean and row.durability != "full":
            # Without FULL, commits that readers have seen may be gone: their cursors must not fit any more.
            row = replace(row, state=replace(row.state, epoch=new_epoch(clock)))
            log.warning("unclean stop without full durability: new epoch", epoch=row.state.epoch)
        row = replace(row, clean=False, durability=durability)
    write_log_row(connection, row)
    connection.execute("COMMIT")
    return row


def read_log_row(connection: sqlite3.Connection) -> LogRow:
    epoch, first, head, head_digest, trimmed_digest, received_at, clean, durability = connection.execute(
        "SELECT epoch, first, head, head_digest, trimmed_digest, received_at, clean, durability FROM log"
    ).fetchone()
    return LogRow(
        LogState(epoch, first, head, head_digest, trimmed_digest), received_at, clean=bool(clean), durability=durability
    )


def write_log_row(connection: sqlite3.Connection, row: LogRow) -> None:
    state = row.state
    connection.execute(
        "INSERT OR REPLACE INTO log VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            state.epoch,
            state.first,
            state.head,
            state.head_digest,
            state.trimmed_digest,
            row.received_at,
            int(row.clean),
            row.durability,
        ),
    )


def place_of(path: Path) -> tuple[int, int] | None:
    """Which file lies there now; None if there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def has_room(path: Path) -> bool:
    """Whether the file system takes writes and has some space left."""
    volume = os.statvfs(path.parent)
    return volume.f_bavail * volume.f_frsize >= ROOM_BYTES and not volume.f_flag & os.ST_RDONLY


def storage_error(failure: sqlite3.Error | OSError, path: Path) -> LoadError:
    """What a failure of SQLite or the file system means to a publisher."""
    primary = getattr(failure, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull("The disk that holds the event log is full.")
    if primary in _DAMAGED:
        return LogDamaged(f"The event log is damaged: {failure}.")
    try:
        volume = os.statvfs(path.parent)
    except OSError:
        return StorageFailed(f"The event log cannot be reached: {failure}.")
    return _by_the_state_of(volume, primary, failure)


def _by_the_state_of(volume: os.statvfs_result, primary: int, failure: sqlite3.Error | OSError) -> LoadError:
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or volume.f_flag & os.ST_RDONLY:
        return StorageReadOnly("The event log is on a read-only file system, or may not be written.")
    # On a full disk the shared-memory file of the WAL fails to grow, which SQLite calls an I/O error.
    if volume.f_bavail * volume.f_frsize < ROOM_BYTES:
        return StorageFull("The disk that holds the event log is full.")
    if primary == sqlite3.SQLITE_CANTOPEN or isinstance(failure, PermissionError):
        return StorageReadOnly(f"The event log cannot be opened for writing: {failure}.")
    return StorageFailed(f"The event log cannot be written: {failure}.")
