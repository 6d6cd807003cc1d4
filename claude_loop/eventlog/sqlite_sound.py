"""Whether a file from somewhere else may take the place of events.db: it has our tables, nothing in it acts by itself,
and its numbers agree with its events."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from claude_loop.clock import LATEST_MS
from claude_loop.errors import UnusableBackup
from claude_loop.eventlog.migrations import STEPS
from claude_loop.eventlog.sqlite_file import LogRow
from claude_loop.ids import id_digest


def insist_on_sound(copy: sqlite3.Connection, row: LogRow, named: Path) -> None:
    """Raises ``UnusableBackup``."""
    (version,) = copy.execute("PRAGMA user_version").fetchone()
    if _parts(copy) != _parts_of(version):
        raise UnusableBackup(f"{named} holds other tables, indexes or triggers than a log of schema {version} has.")
    first, head, digest = row.state.first, row.state.head, row.state.head_digest
    if not (type(first) is type(head) is type(row.received_at) is int and 0 <= row.received_at <= LATEST_MS):
        raise UnusableBackup(f"{named} does not say where its log begins and ends.")
    least, last = copy.execute("SELECT min(seq), max(seq) FROM events").fetchone()
    if first < 1 or (first, head) != ((head + 1, head) if last is None else (least, last)):
        raise UnusableBackup(f"{named} contradicts itself: its events are not those from {first} to {head}.")
    if last is not None and digest != _digest_at(copy, head):
        raise UnusableBackup(f"{named} contradicts itself: event {head} is another one than it says.")


def _parts(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """The tables, indexes, triggers and views, without what SQLite makes for itself."""
    rows = connection.execute("SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'")
    return set(rows.fetchall())


def _parts_of(version: int) -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        for step in STEPS[: max(0, version)]:
            for change in step:
                if isinstance(change, str):
                    empty.execute(change)
                else:
                    change(empty)
        return _parts(empty)


def _digest_at(copy: sqlite3.Connection, seq: int) -> str:
    (event_id,) = copy.execute("SELECT id FROM events WHERE seq = ?", (seq,)).fetchone()
    return id_digest(str(event_id))
