"""What only the durable backend can get wrong: files, epochs, full disks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from claude_loop.errors import (
    ClaudeLoopError,
    LogDamaged,
    LogGone,
    NewerLog,
    ShuttingDown,
    StorageFailed,
    StorageFull,
    StorageReadOnly,
)
from claude_loop.eventlog import sqlite_commit, sqlite_lookups, sqlite_writer
from claude_loop.eventlog.base import Chain, NoProjection, SpoolOffset, nobody
from claude_loop.eventlog.migrations import STEPS
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.eventlog.sqlite_commit import Append
from claude_loop.events import Event
from tests.support import PATIENCE, eventually
from tests.unit.eventlog.failing_commit import FailingCommit


def event(number, **data):
    return Event("a.b", data, id=f"e{number}", source="test", at=1)


async def opened(path, **options):
    log = SqliteEventLog(path, **options)
    await log.open(nobody)
    return log


async def abandon(log):
    """End a log as kill -9 would: no clean-stop marker, whatever was committed stays."""
    log._writer._close = log._writer._disconnect
    await log.close()


async def test_everything_survives_a_restart(tmp_path):
    log = await opened(tmp_path / "events.db")
    await log.append_made(lambda: [event(1), event(2)], 2, [SpoolOffset("f", 1, 9)])
    before = log.state
    await log.close()
    log = await opened(tmp_path / "events.db")
    assert log.state == before
    assert await log.spool_offsets() == [("f", 1, 9)]
    assert (await log.append([event(2), event(3)])) == [(2, True, None), (3, False, None)]
    await log.close()


@pytest.mark.parametrize(
    ("durability", "clean", "same"), [("full", False, True), ("normal", True, True), ("normal", False, False)]
)
async def test_a_new_epoch_only_after_an_unclean_stop_that_may_have_lost_commits(tmp_path, durability, clean, same):
    log = await opened(tmp_path / "events.db", durability=durability)
    await log.append([event(1)])
    epoch = log.state.epoch
    await (log.close() if clean else abandon(log))
    log = await opened(tmp_path / "events.db")
    assert (log.state.epoch == epoch) is same
    assert log.state.head == 1
    await log.close()


async def test_files_are_private_and_a_planted_link_is_refused(tmp_path):
    log = await opened(tmp_path / "events.db")
    await log.append([event(1)])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}
    await log.close()
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(ClaudeLoopError):
        await opened(tmp_path / "link.db")
    assert not (tmp_path / "elsewhere.db").exists()


async def test_a_file_of_a_later_version_is_refused_untouched(tmp_path):
    path = tmp_path / "events.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    with pytest.raises(NewerLog, match="schema"):
        await opened(path)


async def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path):
    path = tmp_path / "events.db"
    path.write_bytes(b"this is no database, it only looks like a file" * 100)
    with pytest.raises(LogDamaged, match="not a database"):
        await opened(path)


async def test_a_damaged_page_is_reported_for_good_and_ends_all_writing(tmp_path):
    path = tmp_path / "events.db"
    log = await opened(path)
    await log.append([event(number, text="x" * 1000) for number in range(200)])
    await log.close()
    content = bytearray(path.read_bytes())
    whole = bytes(content[: 12 * 4096])
    content[12 * 4096 :] = b"\xa5" * (len(content) - 12 * 4096)  # behind the schema
    path.write_bytes(content)
    log = await opened(path)
    with pytest.raises(LogDamaged):
        await log.read(0, 1000)
    await eventually(lambda: isinstance(log.failure, LogDamaged))
    commits = log._writer.commits
    for number in (1000, 1001):
        with pytest.raises(LogDamaged, match="damaged"):
            await log.append([event(number)])
    with pytest.raises(LogDamaged):
        await log.prune(10**15, 0, 100)
    await asyncio.sleep(1.2 * sqlite_writer.PROBE_SECONDS)  # nothing makes it forget
    assert isinstance(log.failure, LogDamaged)
    assert log._writer.commits == commits
    await log.close()
    assert len(path.read_bytes()) == len(content)
    assert sum(a != b for a, b in zip(path.read_bytes(), whole, strict=False)) < 4096


async def test_nothing_is_stored_in_a_file_that_was_moved_away_until_it_is_back(tmp_path):
    path, aside = tmp_path / "events.db", tmp_path / "aside.db"
    log = await opened(path)
    await log.append([event(1)])
    path.rename(aside)
    with pytest.raises(LogGone, match="moved or deleted"):
        await log.append([event(2)])
    path.write_bytes(aside.read_bytes())  # another file of this name is no better
    with pytest.raises(LogGone):
        await log.append([event(2)])
    assert isinstance(log.failure, LogGone)
    assert log.state.head == 1
    aside.rename(path)
    await eventually(lambda: log.failure is None)
    assert [appended.seq for appended in await log.append([event(2)])] == [2]
    await log.close()
    log = await opened(path)
    assert log.state.head == 2
    await log.close()


async def test_a_file_that_was_deleted_is_not_begun_anew_behind_its_readers(tmp_path):
    path = tmp_path / "events.db"
    log = await opened(path)
    await log.append([event(1)])
    path.unlink()
    log._writer._disconnect()  # as after a failure of the disk
    with pytest.raises(LogGone):
        await log.append([event(2)])
    assert not path.exists()
    await log.close()
    assert not path.exists()


async def test_publishing_after_close_is_refused(tmp_path):
    log = await opened(tmp_path / "events.db")
    writer_close = log._writer._close

    def close_with_one_waiting():
        log._writer.submit(Append([event(9)], [], answers.append, 1, None, Chain(), 1))
        writer_close()

    answers = []
    log._writer._close = close_with_one_waiting
    await log.close()
    assert isinstance(answers[0], ShuttingDown)


async def test_an_unknown_outcome_of_commit_is_looked_up(tmp_path):
    """An I/O error at COMMIT says nothing: if the transaction is there, it is announced, not repeated."""
    heard = []
    log = SqliteEventLog(tmp_path / "events.db")
    await log.open(lambda events, state: heard.extend(e.id for e in events))
    await log.append([event(1)])
    for happened in (True, False):
        log._writer._connection = FailingCommit(log._writer._connection, commit_first=happened)
        if happened:
            assert await log.append([event(2)]) == [(2, False, None)]
        else:
            with pytest.raises(StorageFailed):
                await log.append([event(3)])
    assert heard == ["e1", "e2"]
    assert await log.append([event(2), event(3)]) == [(2, True, None), (3, False, None)]
    assert heard == ["e1", "e2", "e3"]
    await log.close()


async def test_a_clean_stop_leaves_one_file(tmp_path):
    log = SqliteEventLog(tmp_path / "events.db")
    await log.open(nobody)
    await log.append([event(1)])
    assert len((await log.read(0, 10)).events) == 1
    await log.close()
    assert [file.name for file in tmp_path.iterdir()] == ["events.db"]


async def test_a_log_that_was_opened_anew_is_still_locked_against_others(tmp_path, monkeypatch):
    """Else whoever closes the file next takes himself for the last, and deletes the WAL behind the daemon."""
    path = tmp_path / "events.db"
    log = await opened(path)
    await log.append([event(1)])
    await log.read(0, 10)  # by a connection that stays

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_commit, "insert_events", full)
        with pytest.raises(StorageFailed):
            await log.append([event(2)])
    await log.append([event(2)])
    assert count_elsewhere(path) == 2
    await log.append([event(3)])
    assert count_elsewhere(path) == 3
    await log.close()


def count_elsewhere(path):
    """How many events another process finds, which may write to the file and closes it again."""
    script = (
        "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM events').fetchone())"
    )
    return int(subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True).stdout)


async def test_a_defect_in_one_batch_spares_the_others_of_its_group(tmp_path):
    log = await opened(tmp_path / "events.db")
    poison = event(2)
    poison.data = {"unencodable": object()}
    async with asyncio.timeout(PATIENCE):
        futures = [log.append([event(1)]), log.append([poison]), log.append([event(3)])]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert outcomes[0][0].seq == 1
    assert getattr(outcomes[1], "code", None) == "internal"
    assert outcomes[2][0].seq == 2
    assert log.failure is None
    await log.close()


class OneDocument(NoProjection):
    """A read model of one document: the ids of all events."""

    def apply(self, events, entities):
        known = entities.get("all") or {"ids": []}
        entities.put("all", {"ids": [*known["ids"], *(event.id for event in events)]})


async def test_a_document_that_cannot_be_loaded_fails_the_commit_and_not_the_event(tmp_path, monkeypatch):
    """Else the read model would lack an event of the log for good."""
    log = await opened(tmp_path / "events.db", projection=OneDocument())
    await log.append([event(1)])

    def broken(*_):
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_lookups, "load_document", broken)
        log._writer.cache.discard()
        with pytest.raises(StorageFailed):
            await log.append([event(2)])
    assert await log.append([event(2), event(3)]) == [(2, False, None), (3, False, None)]
    assert await log.entities("") == {"all": {"ids": ["e1", "e2", "e3"]}}
    await log.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB that a test can fill."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "claude-loop-test", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


async def recovered(log):
    async with asyncio.timeout(PATIENCE):
        while log.failure is not None:
            await asyncio.sleep(0.05)


async def test_a_full_disk_refuses_clearly_and_recovers_by_itself(small_disk):
    log = await opened(small_disk / "events.db")
    stored = 0
    with pytest.raises(StorageFull) as refusal:
        while True:
            (outcome,) = await log.append([event(stored + 1, text="x" * 20_000)])
            stored = outcome.seq
    assert refusal.value.status == 507
    assert stored > 10
    assert isinstance(log.failure, StorageFull)
    assert log.state.head == stored
    assert len((await log.read(0, 10_000)).events) == stored  # reading goes on
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    await recovered(log)
    assert (await log.append([event(stored + 1)]))[0].seq == stored + 1
    assert len((await log.read(0, 10_000)).events) == stored + 1
    await log.close()


async def test_a_read_only_file_system_refuses_clearly_and_recovers_by_itself(small_disk):
    log = await opened(small_disk / "events.db")
    await log.append([event(1)])
    log._writer._disconnect()  # a file open for writing keeps the kernel from changing the mount
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageReadOnly):
        await log.append([event(2)])
    assert isinstance(log.failure, StorageReadOnly)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    await recovered(log)
    assert (await log.append([event(2)]))[0].seq == 2
    await log.close()


@pytest.mark.requires("linux")
async def test_an_opening_that_is_cancelled_leaves_nothing_open(tmp_path):
    path = tmp_path / "events.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        log = SqliteEventLog(path)
        opening = asyncio.ensure_future(log.open(nobody))
        await eventually(lambda: open_files().count(str(path)) == 2)
        opening.cancel()
        await asyncio.sleep(0)
        assert not opening.done()
        other.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not {thread.name for thread in threading.enumerate()} & {"eventlog-writer"}
    assert not [name for name in open_files() if name.startswith(str(path))]


async def test_closing_does_not_wait_for_a_search_without_end(tmp_path):
    log = await opened(tmp_path / "events.db")
    endless = "WITH RECURSIVE n(i) AS (SELECT begun() UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    begun = threading.Event()

    def run(connection):
        connection.create_function("begun", 0, lambda: begun.set() or 1)
        return connection.execute(endless).fetchone()

    reading = asyncio.ensure_future(log._readers.ask(run))
    await eventually(begun.is_set)
    async with asyncio.timeout(PATIENCE):
        await log.close()
        with pytest.raises(StorageFailed):
            await reading


def open_files():
    """The path behind each descriptor of this process."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(descriptor))
    return found


async def test_a_writer_that_ended_by_a_defect_is_reported(tmp_path, monkeypatch):
    log = await opened(tmp_path / "events.db")

    def broken(_request):
        raise TypeError("a defect")

    monkeypatch.setattr(log._writer, "_turn", broken)
    log.append([event(1)])
    await eventually(lambda: log.failure is not None, PATIENCE)
    assert "a defect" in log.failure.message
    log._writer._disconnect()
    await log.close()
