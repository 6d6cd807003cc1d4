"""Forgetting a PRD in events.db: the event that says so is committed first, the blanking follows in steps.

How far it is stands in the table ``blanked``, in the same transactions: what a crash broke off is gone on with.
Numbers, ids and types stay, so nothing that refers to them breaks; only what the events said is gone.
"""

from __future__ import annotations

import sqlite3

import orjson

from claude_loop.eventlog.base import Projection
from claude_loop.eventlog.numbering import fold_in
from claude_loop.eventlog.sqlite_rows import COLUMNS, event_from_row, store_documents
from claude_loop.eventlog.sqlite_upkeep import documents_of
from claude_loop.events import BLANK, FORGOTTEN, Event

_FORGETS = f"type = '{FORGOTTEN}' AND json_extract(json, '$.data') = '{{}}'"
# Values of `blanked.done`: events and snapshot are blank; what was overwritten has left the write-ahead log too.
_BLANKED, _WIPED = 1, 2
_UPDATE = "UPDATE events SET json = json_set(json, '$.data', json(?))"
_BLANK = orjson.dumps(BLANK).decode()
_OF_PRD = "prd_id = ? AND project IS ? AND seq > ?"


def blank(connection: sqlite3.Connection, projection: Projection, step: int) -> bool:
    """One step: at most ``step`` events, or the end of one forgetting. False when there is nothing to do."""
    event = _next_to_do(connection)
    if event is None:
        return _is_in_the_wal(connection) and not _empty_wal(connection)
    (after,) = connection.execute("SELECT coalesce(max(upto), 0) FROM blanked WHERE seq = ?", (event.seq,)).fetchone()
    prd = event.prd_id, event.project, after
    (upto,) = connection.execute(
        f"SELECT max(seq) FROM (SELECT seq FROM events WHERE {_OF_PRD} AND seq < ? ORDER BY seq LIMIT ?)",
        (*prd, event.seq, step),
    ).fetchone()
    # What is overwritten is overwritten with zeros, in the file too.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if upto is None:
            _forget_trimmed(connection, projection, event)
        else:
            connection.execute(f"{_UPDATE} WHERE {_OF_PRD} AND seq <= ? AND NOT ({_FORGETS})", (_BLANK, *prd, upto))
        place = (event.seq, event.seq if upto is None else upto, _BLANKED if upto is None else 0)
        connection.execute("INSERT OR REPLACE INTO blanked (seq, upto, done) VALUES (?, ?, ?)", place)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA secure_delete = OFF")
    return True


def _next_to_do(connection: sqlite3.Connection) -> Event | None:
    row = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE {_FORGETS} AND prd_id IS NOT NULL "
        "AND seq NOT IN (SELECT seq FROM blanked WHERE done > 0) ORDER BY seq LIMIT 1"
    ).fetchone()
    return None if row is None else event_from_row(row)


def _forget_trimmed(connection: sqlite3.Connection, projection: Projection, event: Event) -> None:
    trimmed = documents_of(connection, "trimmed_model")
    fold_in(projection, [event], trimmed)
    store_documents(connection, "trimmed_model", trimmed.dirty)


def _is_in_the_wal(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM blanked WHERE done = ? LIMIT 1", (_BLANKED,)).fetchone() is not None


def _empty_wal(connection: sqlite3.Connection) -> bool:
    """What was overwritten still stands in the write-ahead log; False while somebody reads there."""
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")  # the publishers wait behind this
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")
    if not busy:
        connection.execute("UPDATE blanked SET done = ? WHERE done = ?", (_WIPED, _BLANKED))
    return not busy
