"""Events as rows of events.db, and filters as SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from claude_loop.events import Event
from claude_loop.filters import Filter, is_glob

COLUMNS = "seq, id, type, project, prd_id, story_id, run_id, session_id, source, at, received_at, json"
# Rows of a statement; fewer than the least of these are one statement of just so many.
_ROWS_AT_ONCE = (1024, 512, 256, 128, 64)
# So many prepared statements hold every number of rows, for the tables of one commit.
CACHED_STATEMENTS = 256
_OF_EVENTS = ", ".join(f"events.{column}" for column in COLUMNS.split(", "))


def event_from_row(row: Sequence[Any]) -> Event:
    """An event as it was stored; its ``data`` is parsed when somebody asks."""
    seq, id_, type_, project, prd_id, story_id, run_id, session_id, source, at, received_at, json = row
    return Event(
        type_,
        id=id_,
        project=project,
        prd_id=prd_id,
        story_id=story_id,
        run_id=run_id,
        session_id=session_id,
        source=source,
        at=at,
        received_at=received_at,
        seq=seq,
        json=json,
    )


def insert_events(connection: sqlite3.Connection, events: Sequence[Event]) -> None:
    values: list[Any] = []
    for event in events:
        values += (
            event.seq,
            event.id,
            event.type,
            event.project,
            event.prd_id,
            event.story_id,
            event.run_id,
            event.session_id,
            event.source,
            event.at,
            event.received_at,
            event.json,
        )
    # A conflict, and there is none, would undo the commit as a whole. Were it to undo the statement alone, SQLite would
    # note what each page was before, and move those notes into a file when they grow.
    insert_rows(connection, f"INSERT OR ROLLBACK INTO events ({COLUMNS})", 12, values)


def insert_rows(
    connection: sqlite3.Connection, insert: str, columns: int, values: list[Any], conflict: str = ""
) -> None:
    """Insert many rows, given as their values one after the other, with few statements.

    Each statement hands the interpreter lock over, and `executemany` does at every row: beside a busy event loop the
    writer waits each time until it has it back.
    """
    row = f"({', '.join('?' * columns)})"
    start, left = 0, len(values) // columns
    while left:
        rows = next((rows for rows in _ROWS_AT_ONCE if rows <= left), left)
        size = rows * columns
        connection.execute(f"{insert} VALUES {', '.join([row] * rows)} {conflict}", values[start : start + size])
        start, left = start + size, left - rows


def store_documents(connection: sqlite3.Connection, table: str, documents: Mapping[str, dict[str, Any] | None]) -> None:
    """Store documents; one that is None is deleted."""
    values: list[Any] = []
    for key, document in documents.items():
        if document is None:
            connection.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
            continue
        values += (key, orjson.dumps(document).decode())
    # An update in place: OR REPLACE would delete the row and its index entry and insert both anew.
    conflict = "ON CONFLICT (key) DO UPDATE SET document = excluded.document"
    insert_rows(connection, f"INSERT INTO {table} (key, document)", 2, values, conflict)


def load_document(connection: sqlite3.Connection, table: str, key: str) -> dict[str, Any] | None:
    row = connection.execute(f"SELECT document FROM {table} WHERE key = ?", (key,)).fetchone()
    return None if row is None else orjson.loads(row[0])


def keys_under(connection: sqlite3.Connection, table: str, prefix: str) -> list[str]:
    """The keys that start with ``prefix``, which is not empty."""
    rows = connection.execute(f"SELECT key FROM {table} WHERE key >= ? AND key < ? ORDER BY key", prefix_range(prefix))
    return [key for (key,) in rows]


def prefix_range(prefix: str) -> tuple[str, str]:
    """The end is the prefix with its last character raised by one: keys compare by code point."""
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def find_by_id(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Event]:
    """The stored events among ``ids``, by id."""
    # One statement for any number of ids; the cross join keeps SQLite from sorting them into a table of its own first.
    statement = f"SELECT {_OF_EVENTS} FROM json_each(?) AS wanted CROSS JOIN events ON events.id = wanted.value"
    rows = connection.execute(statement, (orjson.dumps(ids).decode(),))
    return {row[1]: event_from_row(row) for row in rows}


def find_recent(
    connection: sqlite3.Connection, project: str | None, prd_id: str | None, type_: str, most: int
) -> list[Event]:
    """``facts.Recent``, by the index that has these types only, which the statement must name for it to be used."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE type IN ('commit.created', 'test.run', 'usage.reported', 'prd.forgotten')"
        " AND prd_id IS ? AND project IS ? AND type = ? ORDER BY seq DESC LIMIT ?",
        (prd_id, project, type_, most),
    )
    return [event_from_row(row) for row in rows]


def where(filter_: Filter, text: str | None = None) -> tuple[str, list[Any]]:
    """`` AND …`` conditions and their values for a filter and a text to be contained in the event's JSON."""
    conditions: list[str] = []
    values: list[Any] = []
    if filter_.types:
        conditions.append(_types(filter_.types, values))
    if filter_.prd_ids:
        prds = _one_of("prd_id", filter_.prd_ids, values)
        conditions.append(f"({prds} OR prd_id IS NULL)" if filter_.or_without_prd else prds)
    for column, wanted in (
        ("project", filter_.projects),
        ("story_id", filter_.story_ids),
        ("run_id", filter_.run_ids),
        ("session_id", filter_.session_ids),
        ("source", filter_.sources),
    ):
        if wanted:
            conditions.append(_one_of(column, wanted, values))
    if text is not None:
        conditions.append("json LIKE ? ESCAPE '\\'")
        values.append(f"%{_escape_like(orjson.dumps(text)[1:-1].decode())}%")
    return "".join(f" AND {condition}" for condition in conditions), values


def _one_of(column: str, wanted: Sequence[str], values: list[Any]) -> str:
    values += wanted
    return f"{column} = ?" if len(wanted) == 1 else f"{column} IN ({', '.join('?' * len(wanted))})"


def _types(types: Sequence[str], values: list[Any]) -> str:
    alternatives = []
    exact = [type_ for type_ in types if not is_glob(type_)]
    if exact:
        alternatives.append(_one_of("type", exact, values))
    for pattern in types:
        if is_glob(pattern):
            alternatives.append("type GLOB ?")
            values.append(pattern.replace("[", "[[]"))  # SQLite knows classes, our globs do not
    return f"({' OR '.join(alternatives)})"


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
