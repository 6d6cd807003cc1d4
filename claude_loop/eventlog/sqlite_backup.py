"""A copy of events.db while it is written to, and putting such a copy in its place."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from claude_loop.clock import Clock
from claude_loop.errors import NewerLog, UnusableBackup
from claude_loop.eventlog.base import LogState
from claude_loop.eventlog.migrations import STEPS
from claude_loop.eventlog.sqlite_file import open_reader, read_log_row, write_log_row
from claude_loop.eventlog.sqlite_sound import insist_on_sound
from claude_loop.ids import new_epoch
from claude_loop.paths import open_private

_BESIDE = ("-wal", "-shm")


def back_up(database: Path, target: Path) -> LogState:
    """Copy the log as it stands at one moment to ``target``, a single file; where that log stood.

    A daemon that runs goes on writing meanwhile. Raises ``sqlite3.Error``, ``OSError``, ``FileExistsError``, and
    ``UnusableBackup`` when the log itself is damaged.
    """
    if os.path.lexists(target):
        raise FileExistsError(17, "it is there already", str(target))
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with closing(open_reader(database)) as source:
            _copy(source, aside)
        with closing(sqlite3.connect(aside, isolation_level=None)) as copy:
            state = _checked(copy, database)
        os.link(aside, target)  # never over what somebody put there meanwhile
    finally:
        _remove(aside)
    _sync(target.parent)
    return state


def put_back(backup: Path, database: Path, clock: Clock) -> tuple[LogState, Path | None]:
    """Make the log in ``backup`` the one in ``database``, under a new epoch; the log, and where the old one is kept.

    No daemon may run. Raises ``UnusableBackup``, ``NewerLog``, ``OSError``; then nothing has changed.
    """
    if not backup.is_file():  # a FIFO would be waited for
        raise UnusableBackup(f"{backup} is not a regular file.")
    aside = database.with_name("events.db.restoring")
    _remove(aside)
    try:
        try:
            with closing(open_reader(backup)) as source:
                _copy(source, aside)
        except sqlite3.Error as failure:
            raise UnusableBackup(f"{backup} cannot be read: {failure}.") from None
        with closing(sqlite3.connect(aside, isolation_level=None)) as copy:
            _checked(copy, backup)
            row = read_log_row(copy)
            insist_on_sound(copy, row, backup)
            # Readers that saw more than the backup has, or something else under its numbers, are to be told.
            state = replace(row.state, epoch=new_epoch(clock))
            write_log_row(copy, replace(row, state=state, clean=True))
        kept = _keep(database, clock)
        os.replace(aside, database)
        _sync(database.parent)
    finally:
        _remove(aside)
    return state, kept


def put_aside(database: Path, clock: Clock) -> Path | None:
    """Give the log, damaged or not, another name, so that the next start begins a new one; where it is now.

    No daemon may run. Raises ``OSError``.
    """
    kept = _keep(database, clock)
    if kept is not None:
        database.unlink()
        _sync(database.parent)
    return kept


def _copy(source: sqlite3.Connection, aside: Path) -> None:
    """What the rows hold, as it is at one moment, and nothing else: a copy of the pages would also have the free ones,
    with what was pruned or forgotten."""
    os.close(open_private(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    source.execute("PRAGMA query_only = OFF")  # it still cannot write to the log: that is opened for reading alone
    source.execute("VACUUM INTO ?", (str(aside),))
    _sync_file(aside)


def _checked(copy: sqlite3.Connection, named: Path) -> LogState:
    """Where the log in ``copy`` stands. Raises ``UnusableBackup``, ``NewerLog``."""
    try:
        (version,) = copy.execute("PRAGMA user_version").fetchone()
        if version > len(STEPS):
            raise NewerLog(f"{named} has schema {version}; this version of claude-loop knows {len(STEPS)}.")
        (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise UnusableBackup(f"{named} is damaged: {' '.join(str(found).split())[:200]}.")
        state = read_log_row(copy).state
        (last,) = copy.execute("SELECT max(seq) FROM events").fetchone()
    except (sqlite3.Error, TypeError) as failure:  # no such table, or no row in it
        raise UnusableBackup(f"{named} holds no event log: {failure}.") from None
    if not isinstance(state.head, int) or (last or 0) > state.head:
        raise UnusableBackup(f"{named} contradicts itself: its head is {state.head}, its last event {last}.")
    return state


def _keep(database: Path, clock: Clock) -> Path | None:
    """Give the log that is there another name, together with what was not yet written into it."""
    if not database.exists():
        return None
    kept = database.with_name(f"events.db.replaced-{clock.now_us()}")
    os.link(database, kept)
    for suffix in _BESIDE:
        beside = database.with_name(database.name + suffix)
        if beside.exists():
            beside.replace(kept.with_name(kept.name + suffix))
    return kept


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", *_BESIDE):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def _sync_file(path: Path) -> None:
    descriptor = open_private(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
