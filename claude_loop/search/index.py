"""search.db: which words stand in which events.

The index is cut into shards of neighbouring events, each a table: what retention takes is a table dropped, and what
must be read anew, because a PRD was forgotten, is a shard and not everything. No text is stored, only where words are;
the events themselves are looked up in events.db, which is attached and never written here.

Words are made by SQLite from the values in an event's ``data`` and from its type and ids, one statement a batch: the
interpreter lock stays with those who publish.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from claude_loop.eventlog.base import LogState
from claude_loop.ids import id_digest
from claude_loop.paths import make_private

log = structlog.get_logger(__name__)

SHARD_EVENTS = 65_536
# A batch is this many events or bytes, whichever is less: a few milliseconds.
BATCH_EVENTS = 256
BATCH_BYTES = 1024 * 1024
# Values of `forgotten.wiped`: the words have left the tables; the file's freed pages too; the write-ahead log too. It
# stands in the file, so that what a crash broke off is gone on with.
_DROPPED, _VACUUMED, _WIPED = 0, 1, 2
# A later version that cuts words otherwise takes another number, and begins anew.
_FORMAT = 2
_BUSY_SECONDS = 5.0

_SCHEMA = (
    "CREATE TABLE place (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL)",
    "CREATE TABLE shards (number INTEGER PRIMARY KEY, upto INTEGER NOT NULL, digest TEXT NOT NULL)",
    # Events of these PRDs before `seq` have no words, whether the log has blanked them yet or not.
    "CREATE TABLE forgotten (project TEXT, prd_id TEXT NOT NULL, seq INTEGER NOT NULL, wiped INTEGER NOT NULL)",
    "CREATE INDEX forgotten_by_prd ON forgotten (prd_id)",
)
_INSERT = """
    INSERT INTO words_{number} (rowid, body)
    SELECT event.seq,
           event.type || ' ' || coalesce(event.project, '') || ' ' || coalesce(event.prd_id, '') || ' '
           || coalesce(event.story_id, '') || ' ' || coalesce(event.session_id, '') || ' '
           || coalesce((SELECT group_concat(atom, ' ') FROM json_tree(event.json, '$.data') WHERE atom IS NOT NULL), '')
    FROM log.events AS event
    WHERE event.seq > ? AND event.seq <= ?
      AND NOT EXISTS (
          SELECT 1 FROM forgotten
          WHERE forgotten.prd_id = event.prd_id AND forgotten.project IS event.project AND event.seq < forgotten.seq
      )
"""


class SearchIndex:
    """The one connection that writes search.db. Belongs to one thread at a time."""

    def __init__(self, path: Path, log_path: Path, shard_events: int = SHARD_EVENTS) -> None:
        self._shard_events = shard_events
        try:
            self._connection = _opened(path, log_path)
        except (sqlite3.DatabaseError, _OtherFormatError) as failure:
            # It holds nothing that cannot be made again.
            log.warning("search.db is made anew", reason=str(failure))
            discard(path)
            self._connection = _opened(path, log_path)
        self._path, self._inode = path, path.stat().st_ino

    def is_in_place(self) -> bool:
        """Whether the file is still there: SQLite goes on writing to one that was deleted."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self._connection.close()

    def rest(self) -> None:
        """Give back the pages that are held in memory: nothing is to be done for a while."""
        self._connection.execute("PRAGMA shrink_memory")

    def fit(self, state: LogState) -> bool:
        """Whether what is indexed is of this log; if it is not, begin anew."""
        found = self._connection.execute("SELECT epoch FROM place").fetchone()
        newest = self._connection.execute("SELECT upto, digest FROM shards ORDER BY number DESC LIMIT 1").fetchone()
        fits = found == (state.epoch,) and (newest is None or self._stands_at(state, *newest))
        if not fits:
            if found is not None:
                log.info("the search index begins anew: it is of another log", epoch=state.epoch)
            with transaction(self._connection):
                for (number,) in self._connection.execute("SELECT number FROM shards").fetchall():
                    self._drop(number)
                self._connection.execute("DELETE FROM forgotten")
                self._connection.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (state.epoch,))
        return fits

    def _stands_at(self, state: LogState, upto: int, digest: str) -> bool:
        if upto < state.first:
            return True  # trimmed meanwhile: nothing of it will be shown
        row = self._connection.execute("SELECT id FROM log.events WHERE seq = ?", (upto,)).fetchone()
        return upto <= state.head and row is not None and id_digest(row[0]) == digest

    def step(self, state: LogState) -> bool:
        """Index the next few events of the log, or forget what it has forgotten; False when there is nothing to do."""
        with transaction(self._connection):
            more = self._step(state)
        return more or not self._wipe()

    def _step(self, state: LogState) -> bool:
        self._trim(state)
        number, after = self._next_place(state)
        upto = self._end_of_batch(after, min(state.head, self._last_of(number)))
        if upto == after:
            return False
        if self._forget_prds(after, upto):
            return True
        if not self._has(number):
            self._connection.execute(
                f"CREATE VIRTUAL TABLE words_{number} USING fts5"
                "(body, content='', columnsize=0, tokenize='unicode61 remove_diacritics 2')"
            )
        self._connection.execute(_INSERT.format(number=number), (after, upto))
        (id_,) = self._connection.execute("SELECT id FROM log.events WHERE seq = ?", (upto,)).fetchone()
        place = (number, upto, id_digest(id_))
        self._connection.execute("INSERT OR REPLACE INTO shards (number, upto, digest) VALUES (?, ?, ?)", place)
        return True

    def _wipe(self) -> bool:
        """Forgotten words still stand in freed pages and in the write-ahead log; False while somebody reads there."""
        (least,) = self._connection.execute("SELECT coalesce(min(wiped), ?) FROM forgotten", (_WIPED,)).fetchone()
        if least == _DROPPED:
            # Zeros at every deletion would make indexing half as fast; this is once in a while.
            self._connection.execute("VACUUM main")
            self._note_wiped(_VACUUMED)
        if least < _WIPED:
            (busy, _, _) = self._connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                return False
            self._note_wiped(_WIPED)
        return True

    def _note_wiped(self, wiped: int) -> None:
        self._connection.execute("UPDATE forgotten SET wiped = ?", (wiped,))

    def _next_place(self, state: LogState) -> tuple[int, int]:
        """The shard to go on with, the oldest that is not complete, and how far it is."""
        place = indexed_upto(self._connection, state.first, self._shard_events)
        return place // self._shard_events, place

    def _last_of(self, number: int) -> int:
        return (number + 1) * self._shard_events

    def _has(self, number: int) -> bool:
        return self._connection.execute("SELECT 1 FROM shards WHERE number = ?", (number,)).fetchone() is not None

    def _end_of_batch(self, after: int, last: int) -> int:
        size, upto = 0, after
        rows = self._connection.execute(
            "SELECT seq, length(json) FROM log.events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (after, last, BATCH_EVENTS),
        )
        for seq, length in rows.fetchall():
            size += length
            if size > BATCH_BYTES and upto > after:
                break
            upto = seq
        return upto

    def _trim(self, state: LogState) -> None:
        """Let go of the shards whose last event the log no longer has."""
        gone = (state.first - 1) // self._shard_events
        for (number,) in self._connection.execute("SELECT number FROM shards WHERE number < ?", (gone,)).fetchall():
            self._drop(number)

    def _drop(self, number: int) -> None:
        self._connection.execute(f"DROP TABLE IF EXISTS words_{number}")
        self._connection.execute("DELETE FROM shards WHERE number = ?", (number,))

    def _forget_prds(self, after: int, upto: int) -> bool:
        """Drop the shards that have events of a PRD that was forgotten here; they are made again without those."""
        found = self._connection.execute(
            "SELECT project, prd_id, max(seq) FROM log.events WHERE seq > ? AND seq <= ? AND type = 'prd.forgotten' "
            "AND json_extract(json, '$.data') = '{}' AND prd_id IS NOT NULL GROUP BY project, prd_id",
            (after, upto),
        ).fetchall()
        new = [prd for prd in found if not self._knows_forgotten(*prd)]
        for project, prd_id, seq in new:
            self._connection.execute("INSERT INTO forgotten VALUES (?, ?, ?, ?)", (project, prd_id, seq, _DROPPED))
            shards = self._connection.execute(
                "SELECT DISTINCT (seq - 1) / ? FROM log.events WHERE prd_id = ? AND project IS ? AND seq < ?",
                (self._shard_events, prd_id, project, seq),
            )
            for (number,) in shards.fetchall():
                self._drop(number)
        return bool(new)

    def _knows_forgotten(self, project: str | None, prd_id: str, seq: int) -> bool:
        statement = "SELECT 1 FROM forgotten WHERE prd_id = ? AND project IS ? AND seq >= ?"
        return self._connection.execute(statement, (prd_id, project, seq)).fetchone() is not None


def discard(path: Path) -> None:
    """Delete the index, which can be made again. Nobody may have it open: SQLite would mix the old with the new."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def is_spoiled(failure: Exception) -> bool:
    """Whether SQLite says that the file is damaged, which trying again does not mend."""
    code = getattr(failure, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _OtherFormatError(Exception):
    """The file was written by another version."""


def _insist_on_format(version: int) -> None:
    if version not in (0, _FORMAT):
        raise _OtherFormatError(f"format {version}, not {_FORMAT}")


def _opened(path: Path, log_path: Path) -> sqlite3.Connection:
    make_private(path)
    connection = connect(path, log_path)
    try:
        connection.execute("PRAGMA main.journal_mode = WAL")
        # Power loss may cost the last batches, never the file; they are made again.
        connection.execute("PRAGMA main.synchronous = NORMAL")
        connection.execute("PRAGMA main.journal_size_limit = 16777216")
        (version,) = connection.execute("PRAGMA main.user_version").fetchone()
        _insist_on_format(version)
        if version == 0:
            with transaction(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA main.user_version = {_FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, log_path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to search.db with the event log attached as ``log``, which it cannot write."""
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_SECONDS,
    )
    try:
        connection.execute("ATTACH ? AS log", (f"{log_path.absolute().as_uri()}?mode=ro",))
        connection.execute("PRAGMA main.cache_size = -4096")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # Not IMMEDIATE: that would ask for the attached log too. There is no other writer to lose to.
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def indexed_upto(connection: sqlite3.Connection, first: int, shard_events: int = SHARD_EVENTS) -> int:
    """Every event up to here is indexed; ``first`` is the log's oldest."""
    place = first - 1
    rows = connection.execute(
        "SELECT number, upto FROM shards WHERE number >= ? ORDER BY number", (place // shard_events,)
    )
    for number, upto in rows.fetchall():
        if number != place // shard_events:
            break
        place = max(place, upto)
        if place < (number + 1) * shard_events:
            break
    return place
