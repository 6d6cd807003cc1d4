"""Checkpoints beside the writer. Real files: what has been moved is what a copy without the WAL holds."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from claude_loop.clock import SystemClock
from claude_loop.eventlog import sqlite_writer
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.checkpoints import DUE_PAGES, Checkpoints
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.eventlog.sqlite_file import open_writer
from claude_loop.eventlog.sqlite_rows import insert_events
from claude_loop.events import Event


@pytest.fixture
def database(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def writer(database):
    connection, _row = open_writer(database, SystemClock(), "full")
    with closing(connection):
        yield connection


def moved(database, into):
    """How many events are in the file itself."""
    copy = into / "copy.db"
    shutil.copyfile(database, copy)
    with closing(sqlite3.connect(copy)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchall():
            return 0  # not even its tables
        (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    return count


def test_what_many_commits_wrote_is_moved_into_the_file_and_little_is_left_alone(database, writer, tmp_path):
    checkpoints = Checkpoints(database, "full")
    events = [Event("a.b", {}, id=f"e{n}", source="test", at=1, seq=n) for n in range(1, 101)]
    insert_events(writer, events)
    checkpoints.committed(100)
    assert moved(database, tmp_path) == 0
    checkpoints.committed(DUE_PAGES)
    checkpoints.close()
    assert moved(database, tmp_path) == 100


def test_what_cannot_be_moved_is_told_and_the_next_is_tried_again(database, writer, tmp_path):
    checkpoints = Checkpoints(database, "full")
    checkpoints._connection.close()
    checkpoints._connection = sqlite3.connect(tmp_path / "no-database", check_same_thread=False)
    (tmp_path / "no-database").write_bytes(b"never a database " * 100)
    with capture_logs() as logs:
        for _ in range(2):
            checkpoints.committed(DUE_PAGES)
            checkpoints._thread.join()
        checkpoints.close()
    assert [entry["reason"] for entry in logs] == ["file is not a database"] * 2


async def test_commits_go_on_while_a_checkpoint_is_made(database, monkeypatch, tmp_path):
    begun, goes_on = threading.Event(), threading.Event()

    class Slow(Checkpoints):
        def _checkpoint(self):
            begun.set()
            goes_on.wait()
            super()._checkpoint()

    monkeypatch.setattr(sqlite_writer, "Checkpoints", Slow)
    log = SqliteEventLog(database)
    await log.open(nobody)
    try:
        await log.append([Event("a.b", {}, id=f"e{n}", source="test", at=1) for n in range(DUE_PAGES)])
        assert begun.wait(10)
        await log.append([Event("a.b", {}, id=f"f{n}", source="test", at=1) for n in range(DUE_PAGES)])
        assert log.state.head == 2 * DUE_PAGES
        assert moved(database, tmp_path) < DUE_PAGES
    finally:
        goes_on.set()
        await log.close()
    assert moved(database, tmp_path) == 2 * DUE_PAGES
