"""What the writer does besides appending: pruning beyond retention, and making the read model anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

from claude_loop.eventlog.base import Projection
from claude_loop.eventlog.numbering import EntityCache, fold_in
from claude_loop.eventlog.sqlite_file import LogRow, write_log_row
from claude_loop.eventlog.sqlite_rows import COLUMNS, event_from_row, keys_under, load_document, store_documents
from claude_loop.events import Event
from claude_loop.ids import id_digest

_PAGE = 1000


def prune(
    connection: sqlite3.Connection,
    row: LogRow,
    projection: Projection,
    keep_from_ms: int,
    keep_events: int,
    step: int,
) -> tuple[int, LogRow]:
    """Delete at most ``step`` of the oldest events, those received before ``keep_from_ms`` or beyond the newest
    ``keep_events``, after folding them into ``trimmed_model``. One transaction."""
    state = row.state
    by_count = state.head - keep_events
    events = [
        event
        for event in _events(connection, state.first - 1, step)
        if event.seq <= by_count or event.received_at < keep_from_ms
    ]
    if not events:
        # Up to 8 MB of pages that were read: what comes next needs others, and reads them in milliseconds.
        connection.execute("PRAGMA shrink_memory")
        return 0, row
    last = events[-1]
    trimmed = documents_of(connection, "trimmed_model")
    connection.execute("BEGIN IMMEDIATE")
    try:
        fold_in(projection, events, trimmed)
        store_documents(connection, "trimmed_model", trimmed.dirty)
        connection.execute("DELETE FROM events WHERE seq <= ?", (last.seq,))
        pruned = replace(row, state=replace(state, first=last.seq + 1, trimmed_digest=id_digest(last.id)))
        write_log_row(connection, pruned)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(events), pruned


def rebuild(connection: sqlite3.Connection, row: LogRow, projection: Projection) -> int:
    """Fold the whole log into a fresh read model that begins with the snapshot at the trim edge.

    One transaction: readers see the old read model or the new one. Returns the number of events folded.
    """
    count = 0
    cache = documents_of(connection, "read_model")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("DELETE FROM read_model")
        connection.execute("INSERT INTO read_model SELECT key, document FROM trimmed_model")
        after = row.state.first - 1
        while page := list(_events(connection, after, _PAGE)):
            fold_in(projection, page, cache)
            store_documents(connection, "read_model", cache.dirty)
            cache.folded()
            after = page[-1].seq
            count += len(page)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return count


def documents_of(connection: sqlite3.Connection, table: str) -> EntityCache:
    return EntityCache(
        lambda key: load_document(connection, table, key),
        keys_under=lambda prefix: keys_under(connection, table, prefix),
    )


def _events(connection: sqlite3.Connection, after: int, limit: int) -> Iterator[Event]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
    return map(event_from_row, rows)
