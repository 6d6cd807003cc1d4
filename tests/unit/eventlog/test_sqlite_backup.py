"""Copies of a log that is written to, and logs that were put back."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from claude_loop.clock import SystemClock
from claude_loop.errors import NewerLog, UnusableBackup
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.migrations import STEPS
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.eventlog.sqlite_backup import back_up, put_aside, put_back
from claude_loop.events import Event

CLOCK = SystemClock()


async def opened(path: Path) -> SqliteEventLog:
    log = SqliteEventLog(path)
    await log.open(nobody)
    return log


async def append(log: SqliteEventLog, *numbers: int) -> None:
    await log.append([Event("a.b", {"n": n}, id=f"e{n}", source="test", at=1) for n in numbers])


async def ids(log: SqliteEventLog) -> list[str]:
    return [event.id for event in (await log.read(0, 100)).events]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


async def test_a_copy_has_what_was_committed_and_is_one_private_file(tmp_path, database):
    log = await opened(database)
    await append(log, 1, 2, 3)
    target = tmp_path / "out" / "copy.db"
    target.parent.mkdir()
    state = back_up(database, target)
    assert state.head_cursor == log.state.head_cursor
    assert os.listdir(target.parent) == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    await append(log, 4)
    await log.close()
    copy = await opened(target)
    assert await ids(copy) == ["e1", "e2", "e3"]
    await copy.close()


async def test_what_is_there_is_not_overwritten(tmp_path, database):
    log = await opened(database)
    await log.close()
    target = tmp_path / "mine"
    target.write_text("mine")
    with pytest.raises(FileExistsError):
        back_up(database, target)
    assert target.read_text() == "mine"


async def test_put_back_under_a_new_epoch_and_the_old_log_is_kept_with_its_tail(tmp_path, database):
    log = await opened(database)
    await append(log, 1, 2)
    copy = tmp_path / "copy.db"
    before = back_up(database, copy)
    await append(log, 3)
    log._writer._close = log._writer._disconnect  # as kill -9 would: the last events are in the WAL alone
    with closing(sqlite3.connect(database)) as held:  # keeps the WAL from being folded in at the last close
        held.execute("SELECT count(*) FROM events").fetchone()
        await log.close()
        state, kept = put_back(copy, database, CLOCK)
    assert (state.head, state.head_digest) == (before.head, before.head_digest)
    assert state.epoch != before.epoch

    restored = await opened(database)
    assert restored.state.epoch == state.epoch
    await append(restored, 4)
    assert await ids(restored) == ["e1", "e2", "e4"]
    await restored.close()
    assert kept is not None
    old = await opened(kept)
    assert await ids(old) == ["e1", "e2", "e3"]
    await old.close()
    assert not (tmp_path / "events.db.restoring").exists()


async def test_put_back_where_there_is_no_log(tmp_path, database):
    log = await opened(database)
    await append(log, 1)
    await log.close()
    back_up(database, tmp_path / "copy.db")
    elsewhere = tmp_path / "new" / "events.db"
    elsewhere.parent.mkdir()
    _, kept = put_back(tmp_path / "copy.db", elsewhere, CLOCK)
    assert kept is None
    assert os.listdir(elsewhere.parent) == ["events.db"]


async def refused(copy: Path, database: Path, error: type[Exception]) -> None:
    """Nothing has changed."""
    before = database.read_bytes()
    names = sorted(os.listdir(database.parent))
    with pytest.raises(error):
        put_back(copy, database, CLOCK)
    assert database.read_bytes() == before
    assert sorted(os.listdir(database.parent)) == names


async def test_what_is_no_log_damaged_or_newer_is_refused(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    database = folder / "events.db"
    log = await opened(database)
    await append(log, *range(500))
    await log.close()

    copy = tmp_path / "text"
    copy.write_text("no database at all" * 100)
    await refused(copy, database, UnusableBackup)

    copy = tmp_path / "other.db"
    with closing(sqlite3.connect(copy)) as other:
        other.execute("CREATE TABLE something (else_)")
    await refused(copy, database, UnusableBackup)

    copy = tmp_path / "damaged.db"
    back_up(database, copy)
    with copy.open("r+b") as file:
        for page in range(5, os.path.getsize(copy) // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 512)
    await refused(copy, database, UnusableBackup)

    copy = tmp_path / "newer.db"
    back_up(database, copy)
    with closing(sqlite3.connect(copy)) as newer:
        newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    await refused(copy, database, NewerLog)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER gone AFTER INSERT ON events BEGIN DELETE FROM events; END",
        "DROP INDEX events_by_id",
        "DROP TABLE read_model",
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 3",
        "PRAGMA user_version = -1",
        "UPDATE log SET head = 'x'",
        "UPDATE log SET head = 9",
        "UPDATE log SET first = -5",
        "UPDATE log SET first = 2",
        "UPDATE log SET head_digest = 'x'",
        "UPDATE log SET received_at = 9e18",
        "DELETE FROM events WHERE seq = 1",
        "DELETE FROM events",
    ],
)
async def test_what_would_not_keep_the_logs_word_is_refused(tmp_path, change):
    folder = tmp_path / "home"
    folder.mkdir()
    log = await opened(folder / "events.db")
    await append(log, 1, 2, 3)
    await log.close()
    copy = tmp_path / "copy.db"
    back_up(folder / "events.db", copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as changed:
        changed.execute(change)
    await refused(copy, folder / "events.db", UnusableBackup)


async def test_a_log_of_which_everything_was_pruned_is_put_back(tmp_path, database):
    log = await opened(database)
    await append(log, 1, 2, 3)
    await log.prune(2**62, 1, 100)
    await log.close()
    back_up(database, tmp_path / "copy.db")
    state, _ = put_back(tmp_path / "copy.db", database, CLOCK)
    assert (state.first, state.head) == (4, 3)


async def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    log = await opened(folder / "events.db")
    await log.close()
    os.mkfifo(tmp_path / "pipe")
    await refused(tmp_path / "pipe", folder / "events.db", UnusableBackup)


async def test_what_was_pruned_is_in_no_page_of_a_copy(tmp_path, database):
    log = await opened(database)
    text = "canary " * 500
    await log.append([Event("a.b", {"t": text}, id=f"e{n}", source="test", at=1) for n in range(50)])
    await log.close()
    with closing(sqlite3.connect(database)) as writer, writer:
        writer.execute("PRAGMA secure_delete = OFF")
        writer.execute("DELETE FROM events WHERE seq <= 49")
        writer.execute("UPDATE events SET json = json_set(json, '$.data', json('{}'))")
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"canary" in database.read_bytes()
    back_up(database, tmp_path / "copy.db")
    assert b"canary" not in (tmp_path / "copy.db").read_bytes()


async def test_a_log_put_aside_is_kept_whole_and_the_next_one_has_another_epoch(database):
    log = await opened(database)
    await append(log, 1, 2)
    epoch = log.state.epoch
    await log.close()
    kept = put_aside(database, CLOCK)
    assert kept is not None
    assert put_aside(database, CLOCK) is None
    log = await opened(database)
    assert (log.state.head, log.state.epoch == epoch) == (0, False)
    await log.close()
    old = await opened(kept)
    assert await ids(old) == ["e1", "e2"]
    await old.close()
