"""The spool's intake with a real log, real files and real processes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_loop.clock import SystemClock, rfc3339
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.base import Appended
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.heap import settle
from claude_loop.hub import Hub
from claude_loop.intake import spool, spool_drain, spool_leaving
from claude_loop.intake import spool as spool_module
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.inotify import Changes
from claude_loop.intake.rejected_lines import RejectedLines
from claude_loop.intake.spool import SpoolIntake
from claude_loop.intake.spool_drain import SpoolDrain
from claude_loop.intake.spool_files import SpoolFiles
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home
from claude_loop.settings import LimitSettings, RedactSettings
from claude_loop.spool_writer import SpoolWriter
from tests.e2e.daemon import clean_environment
from tests.support import BIN, eventually

CLOCK = SystemClock()
GONE = 4_194_400  # above the largest pid there can be


class Running:
    """A hub on a durable log, and the intake under test."""

    def __init__(self, home: Home) -> None:
        self.home = home
        home.prepare()
        self.hub = Hub(SqliteEventLog(home.database), EventBus())
        self.intake = SpoolIntake(home, self.hub, Acceptor(LimitSettings(), RedactSettings(), CLOCK), CLOCK)

    async def start(self) -> Running:
        await self.hub.start()
        await self.intake.start()
        return self

    async def stop(self) -> None:
        await self.intake.stop()
        await self.hub.stop()

    @property
    def head(self) -> int:
        return self.hub.state.head

    async def events(self, filter_: Filter | None = None) -> list[Event]:
        page = await self.hub.log.read(0, 100_000, filter_ or Filter())
        return page.events

    def is_empty(self) -> bool:
        return not os.listdir(self.home.spool) and not os.listdir(self.home.leaving)


@pytest.fixture
async def running(home: Path) -> AsyncIterator[Running]:
    running = await Running(Home(home)).start()
    yield running
    await running.stop()


def stamp(us: int | None = None) -> str:
    us = CLOCK.now_us() if us is None else us
    return f"{rfc3339(us // 1000)[:-4]}{us % 1_000_000:06d}Z"


def line(mark: object, *, at: int | None = None, **more: Any) -> bytes:
    body = {"type": "note.made", "timestamp": stamp(at), "data": {"mark": mark}, **more}
    return b"\n" + json.dumps(body).encode() + b"\n"


def append(home: Home, name: str, content: bytes) -> Path:
    path = home.spool / name
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)
    return path


def new_stem(pid: int = GONE) -> str:
    return f"{CLOCK.now_us()}-{pid}-{os.urandom(3).hex()}"


async def test_a_write_wakes_it_when_idle(running: Running) -> None:
    took = []
    name = f"{new_stem(os.getpid())}.jsonl"
    for number in range(40):
        committed = running.hub.next_commit()
        await asyncio.sleep(0.01)
        started = time.perf_counter()
        append(running.home, name, line(number))
        await committed
        took.append(time.perf_counter() - started)
    # Far below the poll each second: it was woken. How quickly is measured in bench/latency.py.
    assert statistics.median(took) < 0.5
    assert [event.data["mark"] for event in await running.events()] == list(range(40))


async def test_it_sleeps_when_nothing_happens(running: Running) -> None:
    append(running.home, f"{new_stem(os.getpid())}.jsonl", line(1))
    await eventually(lambda: running.head == 1)
    gc.collect()
    started, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(3)
    assert (time.process_time() - cpu) / (
        time.monotonic() - started
    ) < 0.05  # a poll that scans, or a loop that spins, takes far more


@pytest.mark.timeout(240)
async def test_ten_thousand_small_files_are_drained_and_cleaned_up(home: Path) -> None:
    running = Running(Home(home))
    began = CLOCK.now_us() - 60_000_000
    for number in range(10_000):
        stem = f"{began + number}-{GONE}-{number:x}"
        (running.home.spool / f"{stem}.jsonl").write_bytes(line(number, at=began + number, id=f"{stem}.1"))
    started = time.monotonic()
    await running.start()
    await eventually(lambda: running.head == 10_000, 100)
    await eventually(running.is_empty, 100)
    print(f"{time.monotonic() - started:.1f} s")
    assert [event.data["mark"] for event in await running.events()] == list(range(10_000))
    assert await running.hub.log.spool_offsets() == []
    await running.stop()


async def test_the_bash_emitter_and_its_flush(running: Running) -> None:
    script = """
set -euo pipefail
source "$1/emit_progress.sh"
emit_prd_started P 2
emit_story_started P S
( emit_test_run P S 3 0; emit_flush 10 )
emit_commit_created P S abc1234 "it's \\"done\\" – é"
emit_story_completed P S true
emit_flush 10 && echo flushed
"""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, "bash", str(BIN), stdout=subprocess.PIPE, env=clean_environment(running.home.root)
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"flushed\n")
    found = await running.events()
    types = ["prd.started", "story.started", "test.run", "commit.created", "story.completed"]
    assert [event.type for event in found] == types
    assert found[3].data["subject"] == 'it\'s "done" – é'
    assert all("_invalid" not in event.data and "_extra" not in event.data for event in found)
    await eventually(running.is_empty)
    assert os.listdir(running.home.flush) == []


async def test_a_flush_that_is_answered_at_once_counts(running: Running) -> None:
    script = (
        'source "$1/emit_progress.sh"; for n in {1..100}; do emit_iteration P $n; emit_flush 10 || echo "late $n"; done'
    )
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, "bash", str(BIN), stdout=subprocess.PIPE, env=clean_environment(running.home.root)
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"")
    assert running.head == 100


async def test_the_python_emitter_and_its_flush(running: Running) -> None:
    writer = SpoolWriter(running.home)
    ids = [writer.emit("note.made", {"n": n}) for n in range(50)]
    assert await asyncio.to_thread(writer.flush, 10)
    assert [event.id for event in await running.events()] == ids
    # Known by then only as "the file is wholly read": the numbers went with the daemon that read them.
    await running.intake.stop()
    await running.intake.start()
    assert await asyncio.to_thread(writer.flush, 10)


async def test_a_flush_is_not_answered_before_the_line_is_committed(running: Running) -> None:
    stem = new_stem(os.getpid())
    append(running.home, f"{stem}.jsonl", line(1, id=f"{stem}.1"))
    request = running.home.flush / f"{stem}.2"
    request.touch()
    await eventually(lambda: not request.exists())  # nothing more in the file: line 2 was never written there
    future = CLOCK.now_us() + 1_000_000
    append(running.home, f"{stem}.jsonl", line(3, id=f"{stem}.3", at=future))
    request = running.home.flush / f"{stem}.3"
    request.touch()
    await eventually(lambda: not request.exists())
    assert CLOCK.now_us() > future
    assert running.head == 2


async def test_what_is_no_file_of_events_is_moved_aside(running: Running) -> None:
    home = running.home
    os.mkfifo(home.spool / "fifo.jsonl")
    (home.spool / "link.jsonl").symlink_to("/etc/passwd")
    (home.spool / "folder.jsonl").mkdir()
    append(home, "good.jsonl", line(1))
    await eventually(lambda: sorted(os.listdir(home.spool)) == ["good.jsonl"])
    await eventually(lambda: running.head == 1)
    aside = sorted(name.partition("-")[2] for name in os.listdir(home.rejected) if name != "lines.jsonl")
    assert aside == ["fifo.jsonl", "folder.jsonl", "link.jsonl"]
    shown = running.intake.statistics()
    assert shown["rejected"] == 3
    assert {note["file"] for note in shown["rejected_lines"]} == set(aside)


async def test_other_names_are_given_time_to_become_spool_files(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    (running.home.spool / "draft.tmp").write_bytes(line(1))
    (running.home.spool / "junk.tmp").write_bytes(line(2))
    await eventually(lambda: len(running.intake._drain._foreign) == 2, what="a look has passed them over")
    os.rename(running.home.spool / "draft.tmp", running.home.spool / "draft.jsonl")
    await eventually(lambda: running.head == 1)
    monkeypatch.setattr(spool_drain, "FOREIGN_SECONDS", 0.2)
    (running.home.spool / ".hidden.jsonl").write_bytes(line(2))
    await eventually(lambda: any("junk.tmp" in name for name in os.listdir(running.home.rejected)))
    await eventually(lambda: running.intake.statistics()["rejected"] == 2)
    assert {note["file"]: note["reason"] for note in running.intake.statistics()["rejected_lines"]} == {
        "junk.tmp": "Moved to rejected/: its name does not end in .jsonl.",
        ".hidden.jsonl": "Moved to rejected/: its name begins with a dot.",
    }
    assert running.head == 1


async def test_a_secret_in_a_files_name_reaches_neither_ids_nor_records(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_drain, "FOREIGN_SECONDS", 0.2)
    key = "sk-live-A1b2C3d4E5f6G7h8"
    append(running.home, f"{key}.jsonl", line(1) + b"\nnot json\n" + line(2))
    (running.home.spool / f"{key}.tmp").write_text("x")
    append(running.home, "plain.jsonl", line(3))
    await eventually(lambda: running.head == 3 and running.intake.statistics()["rejected"] == 2)

    ids = {event.data["mark"]: event.id for event in await running.events()}
    assert len(set(ids.values())) == 3
    assert ids[3].startswith("plain.g")
    assert key not in repr(ids)
    assert key not in repr(running.intake.statistics())
    for kept in running.home.rejected.iterdir():
        assert key not in kept.name
        assert key not in kept.read_text()


async def test_rejected_lines_are_kept_redacted_and_spoil_nothing_else(running: Running) -> None:
    secret = "sk-ant-" + "api03-aB3dE5gH7jK9mN1pQ2rS4tU6"
    torn = b'\n{"type":"note.made","data":{"key":"' + secret.encode()
    append(
        running.home, "x.jsonl", line(1) + torn + line(2) + b"\n[1,2]\n" + line(3) + b"\n" + b"x" * 3_000_000 + line(4)
    )
    await eventually(lambda: running.head == 4)
    shown = running.intake.statistics()["rejected_lines"]
    assert [note["reason"][:20] for note in shown] == [
        "The line is not JSON",
        "The line is JSON, bu",
        "The line has more th",
    ]
    kept = (running.home.rejected / "lines.jsonl").read_text()
    assert [json.loads(note) for note in kept.splitlines()] == shown
    assert secret not in kept
    assert "[redacted:anthropic-key]" in kept
    assert len(kept) < 8_000
    assert shown[0]["offset"] == len(line(1)) + 1


async def test_an_id_used_again_for_something_else_is_said(running: Running) -> None:
    append(running.home, "x.jsonl", line(1, id="same") + line(1, id="same") + line(2, id="same"))
    await eventually(lambda: running.intake.statistics()["rejected"] == 1)
    assert running.head == 1
    assert "already names another event" in running.intake.statistics()["rejected_lines"][0]["reason"]


async def test_a_file_without_a_last_newline_is_read_when_it_leaves(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_leaving, "QUIET_UNKNOWN", 1.0)
    append(running.home, "whole.jsonl", line(1) + line(2)[1:-1])
    append(running.home, "torn.jsonl", line(3) + line(4)[:40])
    await eventually(lambda: running.head == 3)
    await eventually(running.is_empty)
    assert sorted(event.data["mark"] for event in await running.events()) == [1, 2, 3]
    assert running.intake.statistics()["rejected"] == 1


async def test_a_stopped_writer_keeps_its_file_and_loses_nothing(running: Running) -> None:
    name = f"{new_stem()}.jsonl"
    script = 'exec 3>>"$1"; printf "\\n%s\\n" "$2" >&3; kill -STOP $$; printf "\\n%s\\n" "$3" >&3'
    lines = [line(n).decode().strip() for n in (1, 2)]
    writer = subprocess.Popen(["bash", "-c", script, "bash", str(running.home.spool / name), *lines])
    try:
        await eventually(lambda: running.head == 1)
        await eventually(lambda: os.listdir(running.home.leaving))
        append(running.home, name, line(3))  # a younger life of the name
        await asyncio.sleep(2.5)
        assert running.head == 1
        assert len(os.listdir(running.home.leaving)) == 1
        writer.send_signal(signal.SIGCONT)
        writer.wait(30)
        await eventually(lambda: running.head == 3)
        assert [event.data["mark"] for event in await running.events()] == [1, 2, 3]
        await eventually(running.is_empty)
    finally:
        writer.kill()
        writer.wait()


async def test_while_the_storage_fails_everything_waits_and_then_goes_on(running: Running) -> None:
    log = running.hub.log
    assert isinstance(log, SqliteEventLog)
    writer = log._writer
    append(running.home, "x.jsonl", line(0))
    await eventually(lambda: running.head == 1)
    connect, full = writer._connect, [True]

    def connect_without_room() -> None:
        connect()
        if full:
            (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()  # type: ignore[union-attr]
            writer._connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[union-attr]

    writer._connect = connect_without_room  # type: ignore[method-assign]
    writer._disconnect()
    append(running.home, "x.jsonl", b"".join(line(n) for n in range(1, 4_000)))
    await eventually(lambda: running.intake.statistics()["failure"] == "storage_full")
    await eventually(lambda: running.intake.statistics()["backlog_bytes"] > 100_000)
    assert running.head < 4_000
    full.clear()
    await eventually(lambda: running.head == 4_000)
    assert [event.data["mark"] for event in await running.events()] == list(range(4_000))
    await eventually(lambda: running.intake.statistics()["failure"] is None)
    await eventually(lambda: running.intake.statistics()["backlog_bytes"] == 0)


async def test_it_stops_soon_also_while_the_storage_fails_or_much_is_left(home: Path) -> None:
    running = Running(Home(home))
    append(running.home, "x.jsonl", b"".join(line(n) for n in range(30_000)))
    await running.start()
    await eventually(lambda: running.head > 0)
    started = time.monotonic()
    await running.stop()
    assert time.monotonic() - started < 10
    stopped_at = running.head
    running = await Running(Home(home)).start()
    await eventually(lambda: running.head == 30_000)
    assert [event.data["mark"] for event in await running.events()] == list(range(30_000))
    await running.stop()
    assert 0 < stopped_at < 30_000


async def test_lines_from_the_near_future_wait_and_from_the_far_one_do_not(running: Running) -> None:
    now = CLOCK.now_us()
    soon = now + 1_500_000  # the machine may take its time until "far" is read, and it is to come first
    append(running.home, "ahead.jsonl", line("soon", at=soon) + line("after soon", at=now))
    append(running.home, "wrong.jsonl", line("far", at=now + 3_600_000_000))
    await eventually(lambda: running.head == 3)
    far, *later = await running.events()
    assert [event.data["mark"] for event in (far, *later)] == ["far", "soon", "after soon"]
    assert far.received_at < soon // 1000 <= later[0].received_at


async def test_without_inotify_it_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> None:
        raise OSError(24, "no watches left")

    monkeypatch.setattr(spool_module, "Inotify", unavailable)
    running = await Running(Home(home)).start()
    for number in range(3):
        append(running.home, "x.jsonl", line(number))
        await eventually(lambda number=number: running.head == number + 1)
    assert running.intake.statistics()["inotify"] is False
    await running.stop()


async def test_removed_directories_come_back(running: Running) -> None:
    for folder in (running.home.spool, running.home.leaving, running.home.flush):
        os.rmdir(folder)
    await eventually(running.home.spool.is_dir)
    append(running.home, "x.jsonl", line(1))
    await eventually(lambda: running.head == 1)


async def test_a_drain_that_fails_again_and_again_says_so(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FAILURE_PAUSE", 0.01)
    with monkeypatch.context() as broken:
        broken.setattr(SpoolDrain, "_pass", None)
        append(running.home, "x.jsonl", line(1))
        await eventually(lambda: running.intake.statistics()["failure"] == "internal")
    await eventually(lambda: running.head == 1)
    await eventually(lambda: running.intake.statistics()["failure"] is None)


async def test_a_file_that_shrinks_counts_as_read_and_goes_on(running: Running) -> None:
    path = append(running.home, "x.jsonl", line(1) + line(2))
    await eventually(lambda: running.head == 2)
    os.truncate(path, 0)
    await eventually(lambda: running.intake._drain._table.spool["x.jsonl"].offset == 0)  # type: ignore[union-attr]
    append(running.home, "x.jsonl", line(3))
    await eventually(lambda: running.head == 3)
    assert [event.data["mark"] for event in await running.events()] == [1, 2, 3]


async def test_a_huge_backlog_is_held_in_pieces(home: Path) -> None:
    """Forty files that overlap in time, 24,000 events: at no time are more than a fraction of them in memory."""
    place = Home(home)
    place.prepare()
    began = CLOCK.now_us() - 60_000_000
    for file in range(40):
        lines = [line("x" * 600, at=began + 40 * n + file) for n in range(600)]
        append(place, f"{began + file}-{GONE}-{file}.jsonl", b"".join(lines))
    most = 0
    seen = 0

    def held() -> int:
        return sum(1 for thing in gc.get_objects() if type(thing) is Event)

    gc.collect()
    others = held()  # what tests before this one still hold

    class Counting:
        def submit_made(self, make: Any, number: int, offsets: Any, chain: Any) -> asyncio.Future[list[Appended]]:
            nonlocal most, seen
            events = make()
            assert len(events) == number
            seen += len(events)
            most = max(most, held() - others)
            future = asyncio.get_running_loop().create_future()
            future.set_result([Appended(1)] * len(events))
            return future

    acceptor = Acceptor(LimitSettings(), RedactSettings(), CLOCK)
    drain = SpoolDrain(
        SpoolFiles(place), SpoolTable(), Counting(), acceptor, RejectedLines(place, acceptor.redactor, CLOCK), CLOCK
    )
    await drain.turn(lambda: Changes({}, complete=True))
    assert seen == 24_000
    assert most < 10_000


HOOK = {
    "session_id": "s", "cwd": "/x", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": "u",
    "tool_input": {"command": "ls -la"},
}  # fmt: skip


def hook_line(n: int) -> bytes:
    record = {"type": "hook.claude", "source": "claude", "timestamp": time.time(), "data": HOOK | {"n": n}}
    return b"\n" + json.dumps(record).encode() + b"\n"


@pytest.fixture
def daemons_collector() -> Iterator[None]:
    """Garbage is collected as in the daemon: what a process that runs thousands of tests holds is nobody's slice."""
    before = gc.get_threshold()
    settle()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("daemons_collector")
@pytest.mark.parametrize(("one", "each", "most"), [(line, 2_000, 0.020), (hook_line, 500, 0.030)])
async def test_the_loop_is_not_kept_busy_for_long(
    home: Path, one: Callable[[int], bytes], each: int, most: float
) -> None:
    place = Home(home)
    place.prepare()
    for _ in range(10):
        append(place, f"{new_stem()}.jsonl", b"".join(one(n) for n in range(each)))
    slices = []

    async def watch() -> None:
        while True:
            started = time.thread_time()
            await asyncio.sleep(0)
            slices.append(time.thread_time() - started)

    running = Running(place)
    watcher = asyncio.get_running_loop().create_task(watch())
    await running.start()
    await eventually(lambda: running.head == 10 * each)
    watcher.cancel()
    await running.stop()
    # Processor time of this thread between two turns of the loop: what others would have waited.
    assert sorted(slices)[-2] < most
