"""The follower on a real log and real directories: exactly once, whoever is interrupted, whatever lies there."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claude_loop import run_files
from claude_loop.adopt import follower as module
from claude_loop.adopt import run_directory, run_output
from claude_loop.adopt.follower import OutputFollower
from claude_loop.clock import SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.progress.keys import run_key
from claude_loop.progress.projection import ProgressProjection
from claude_loop.supervision import TaskOwner
from claude_loop.wrapper.tee import Tee
from tests.support import PATIENCE, eventually
from tests.unit.adopt.stand_ins import SimpleScanners
from tests.unit.adopt.test_findings import TESTS

ALL = Filter()


class Run:
    """What the wrapper leaves on disk."""

    def __init__(self, runs: Path, run_id: str = "r1", **note: Any) -> None:
        self.directory = runs / run_id
        self.directory.mkdir(parents=True)
        owner = run_files.own_process()
        plan = {"run_id": run_id, "project": "shop", "prd_id": "P1", "started_at": 1, "owner": owner, **note}
        (self.directory / "run.json").write_text(json.dumps(plan))
        self.tee = Tee(str(self.directory))

    def prints(self, text: bytes) -> None:
        self.tee.keep(text)
        self.tee.flush()

    def ends(self) -> None:
        (self.directory / "end.json").write_text('{"exit_code": 0}')


class Rig:
    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"
        self.runs.mkdir()
        self.hub = Hub(SqliteEventLog(folder / "events.db", ProgressProjection()), EventBus())
        self.tasks = TaskOwner("test")
        self.follower: OutputFollower | None = None

    def follow(self) -> None:
        self.follower = OutputFollower(self.hub, self.runs, SimpleScanners(), str, SystemClock())
        self.tasks.spawn(self.follower.run(), "follower")

    async def interrupt(self) -> None:
        await self.tasks.close()
        if self.follower is not None:
            await self.follower.close()
            self.follower = None

    async def events(self, *types: str) -> list[Event]:
        return (await self.hub.log.read(0, 100_000, Filter(types=types))).events

    async def text(self) -> str:
        chunks = await self.events("output.chunk")
        place = 0
        for chunk in sorted(chunks, key=lambda event: event.data["offset"]):
            assert chunk.data["offset"] == place, "a gap, or the same twice"
            place += chunk.data["bytes"]
        return "".join(chunk.data["text"] for chunk in chunks)

    async def expect(self, text: str, seconds: float = PATIENCE) -> None:
        await eventually(lambda: self._has(text), seconds, f"the text {text[-80:]!r}")

    async def _has(self, text: str) -> bool:
        return await self.text() == text


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.02)
    rig = Rig(tmp_path)
    await rig.hub.start()
    yield rig
    await rig.interrupt()
    await rig.hub.stop()


async def test_output_becomes_chunks_and_findings_events(rig):
    run = Run(rig.runs)
    rig.follow()
    run.prints(
        b"== Iteration 1 of 3 ==\nfirst\n" + TESTS + b"\x1b[32musage limit reached\x1b[0m\n== Iteration 2 of 3 ==\n"
    )
    run.prints("é".encode()[:1])
    await eventually(lambda: rig.events("iteration.started"))
    run.prints("é".encode()[1:] + b"\r\nno line end")
    run.ends()
    await rig.expect(
        "== Iteration 1 of 3 ==\nfirst\n"
        + TESTS.decode()
        + "usage limit reached\n== Iteration 2 of 3 ==\né\nno line end"
    )
    begun = await rig.events("iteration.*")
    assert [event.data for event in begun] == [
        {"iteration": 1, "max_iterations": 3},
        {"iteration": 2, "max_iterations": 3},
    ]
    (tests,) = await rig.events("test.run")
    assert (tests.data["passed"], tests.data["failed"], tests.data["total"]) == (2, 1, 3)
    assert (tests.source, tests.run_id, tests.project, tests.prd_id) == ("output", "r1", "shop", "P1")
    assert tests.id.startswith("r1.out.")
    assert tests.id.endswith("+test")
    (limit,) = await rig.events("agent.waiting")
    assert limit.data["for"] == "rate_limit"
    assert limit.data["until"] == "2027-01-15T08:00:00.000Z"
    chunks = await rig.events("output.chunk")
    assert {chunk.data["iteration"] for chunk in chunks} == {1, 2}
    assert not any("Iteration 2" in chunk.data["text"] for chunk in chunks if chunk.data["iteration"] == 1)


async def test_what_agents_used_is_told_with_their_session(rig):
    run = Run(rig.runs)
    said = json.dumps(
        {
            "type": "result",
            "result": "<promise>DONE</promise> " + "x" * 20_000,
            "session_id": "S1",
            "total_cost_usd": 0.5,
        }
    )
    turn = '{"type":"turn.completed","usage":{"input_tokens":20,"output_tokens":3}}\n'
    run.prints(f'{turn}{{"type":"thread.started","thread_id":"T1"}}\n{said}\n{turn}'.encode())
    run.prints(json.dumps({"type": "user", "content": said}).encode() + b"\n")  # somebody read a log
    run.ends()
    rig.follow()
    await eventually(lambda: _has_ended(rig))
    reported = [(event.session_id, event.source, event.data) for event in await rig.events("usage.reported")]
    assert reported == [
        ("S1", "output", {"cost_usd": 0.5, "cumulative": True}),
        ("T1", "output", {"input_tokens": 20, "output_tokens": 3, "cumulative": True}),
    ]


async def _has_ended(rig) -> bool:
    return '"type": "user"' in await rig.text()


async def test_interrupted_again_and_again_everything_is_there_once(rig, monkeypatch):
    monkeypatch.setattr(run_output, "SLICE_BYTES", 512)
    run, said, draw = Run(rig.runs), b"", random.Random(7)
    for number in range(60):
        piece = b"".join(b"line %d.%d\n" % (number, n) for n in range(draw.randrange(40)))
        piece += TESTS if number % 7 == 0 else b""
        run.prints(piece)
        said += piece
        if number % 5 == 0:
            await rig.interrupt()
            rig.follow()
        await eventually(lambda: rig.follower)
    run.ends()
    await rig.expect(said.decode())
    tests = await rig.events("test.run")
    assert len({event.id for event in tests}) == len(tests) == 9


async def test_a_run_that_prints_much_is_followed_over_segments_which_go(rig, monkeypatch):
    for where in (run_files, run_directory):
        monkeypatch.setattr(where, "SEGMENT_BYTES", 50_000, raising=False)
    for where in ("tee", "times"):
        monkeypatch.setattr(f"claude_loop.wrapper.{where}.SEGMENT_BYTES", 50_000)
    run = Run(rig.runs)
    lines = [b"number %06d of many lines that are printed\n" % n for n in range(5_000)]
    rig.follow()
    for begin in range(0, len(lines), 500):
        run.prints(b"".join(lines[begin : begin + 500]))
    run.ends()
    await rig.expect(b"".join(lines).decode())
    await eventually(lambda: not list(run.directory.glob("output.*")))


async def test_what_lies_there_otherwise_is_refused_and_stays(rig, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("secret words\n")
    (rig.runs / "file").write_text("no directory")
    (rig.runs / "link").symlink_to(tmp_path / "elsewhere")
    hostile: list[Callable[[Path], None]] = [
        lambda d: (d / "output.000001").symlink_to(tmp_path / "elsewhere" / "secret"),
        lambda d: os.mkfifo(d / "output.000001"),
        lambda d: (d / "output.000001").mkdir(),
        lambda d: (d / "run.json").write_text('{"run_id": "another"}'),
        lambda d: (d / "run.json").write_text("[" * 100_000),
        lambda d: (d / "run.json").write_bytes(b"\xff\x00"),
        lambda d: (d / "run.json").write_text(json.dumps({"run_id": d.name, "prd_id": "a\nb", "started_at": 1})),
        lambda d: (d / "run.json").write_text(json.dumps({"run_id": d.name, "prd_id": "P", "started_at": 10**30})),
        lambda d: (d / "run.json").unlink(),
    ]
    for number, spoil in enumerate(hostile):
        spoil(Run(rig.runs, f"hostile{number}").directory)
    run = Run(rig.runs, "zz-good")
    run.prints(b"good\n")
    run.ends()
    rig.follow()
    await rig.expect("good\n")
    assert len(list(rig.runs.iterdir())) == 3 + len(hostile)
    assert (tmp_path / "elsewhere" / "secret").exists()


async def test_a_run_whose_wrapper_died_has_vanished_whatever_was_read_later(rig, monkeypatch):
    monkeypatch.setattr(module, "_VANISHED_SECONDS", 0.1)
    gone = {**run_files.own_process(), "start_ticks": 1}
    started = Event("run.started", {"owner": gone}, id="s", project="shop", prd_id="P1", run_id="r1", at=1)
    owned = Event("system.run_owned", {"pid": os.getpid()}, id="o", project="shop", prd_id="P1", run_id="r1", at=2)
    vanished = Event(
        "system.run_vanished", {"pid": os.getpid()}, id="v", project="shop", prd_id="P1", run_id="r1", at=3
    )
    await rig.hub.publish([started, owned, vanished])
    Run(rig.runs, owner=gone).prints(b"== Iteration 4 of 5 ==\nlast words")
    rig.follow()
    await rig.expect("== Iteration 4 of 5 ==\nlast words")
    key = run_key("shop", "P1", "r1")

    async def has_vanished() -> bool:
        return (await rig.hub.log.entities(key))[key]["state"] == "vanished"

    await eventually(lambda: rig.events("system.run_vanished"))
    await eventually(has_vanished)
    assert (await rig.hub.log.entities(key))[key]["iteration"] == 4


async def test_output_that_is_read_after_the_end_does_not_reopen_the_run(rig):
    started = Event("run.started", {}, id="s", project="shop", prd_id="P1", run_id="r1", at=1)
    run = Run(rig.runs)
    run.prints(b"== Iteration 4 of 5 ==\nusage limit reached\n" + TESTS)
    run.ends()
    at = SystemClock().now_us() // 1000
    ended = Event("run.completed", {"success": True}, id="e", project="shop", prd_id="P1", run_id="r1", at=at)
    await rig.hub.publish([started, ended])
    rig.follow()
    await eventually(lambda: rig.events("output.chunk"))
    await eventually(lambda: rig.events("test.run"))
    key = run_key("shop", "P1", "r1")
    document = (await rig.hub.log.entities(key))[key]
    assert document["finished_at"] is not None
    assert (document["iteration"], document["waiting"]) == (4, None)


async def test_what_was_printed_while_no_daemon_was_there_has_the_time_at_which_it_came(rig, monkeypatch):
    run = Run(rig.runs)
    moments = iter([1_700_000_000_000, 1_700_000_060_000, 1_700_000_061_000])
    clock = SimpleNamespace(time_ns=lambda: next(moments) * 1_000_000, monotonic=time.monotonic)
    monkeypatch.setattr("claude_loop.wrapper.tee.time", clock)
    for text in (b"== Iteration 1 of 3 ==\nfirst\n", b"== Iteration 2 of 3 ==\n", b"<promise>DONE</promise>\n"):
        run.prints(text)
    run.ends()
    rig.follow()
    await rig.expect("== Iteration 1 of 3 ==\nfirst\n== Iteration 2 of 3 ==\n<promise>DONE</promise>\n")
    told = {(e.type, e.data.get("iteration")): e.at for e in await rig.events("iteration.*", "log.*", "output.chunk")}
    assert told == {
        ("iteration.started", 1): 1_700_000_000_000,
        ("output.chunk", 1): 1_700_000_000_000,
        ("iteration.started", 2): 1_700_000_060_000,
        ("log.message", None): 1_700_000_061_000,
        ("output.chunk", 2): 1_700_000_061_000,
    }
    await eventually(lambda: _is_emptied(run))
    assert sorted(path.name for path in run.directory.iterdir()) == ["end.json", "run.json"]


async def _is_emptied(run: Run) -> bool:
    return not list(run.directory.glob("output.*"))


async def test_without_notes_of_the_times_output_has_the_time_of_its_file(rig):
    run = Run(rig.runs)
    run.prints(b"== Iteration 1 of 3 ==\n")
    run.ends()
    (run.directory / "times.000001").write_bytes(b"half a re")
    os.utime(run.directory / "output.000001", (1_700_000_000, 1_700_000_000))
    rig.follow()
    await rig.expect("== Iteration 1 of 3 ==\n")
    (chunk,) = await rig.events("output.chunk")
    assert chunk.at == 1_700_000_000_000


async def test_a_wrapper_in_a_container_is_not_taken_for_dead(rig, monkeypatch):
    monkeypatch.setattr(module, "_VANISHED_SECONDS", 0.0)
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.0)
    run = Run(rig.runs, owner={**run_files.own_process(), "pid": 1, "start_ticks": 1, "pid_namespace": "pid:[1]"})
    started = Event("run.started", {}, id="s", project="shop", prd_id="P1", run_id="r1", at=1)
    await rig.hub.publish([started])
    run.prints(b"from afar\n")
    rig.follow()
    await rig.expect("from afar\n")
    run.prints(b"and more\n")
    await rig.expect("from afar\nand more\n")
    assert run.directory.exists()
    assert await rig.events("system.run_vanished") == []


async def test_old_directories_go(rig, monkeypatch):
    monkeypatch.setattr(module, "_VANISHED_SECONDS", 0.0)
    monkeypatch.setattr(module, "KEEP_SECONDS", 0.2)
    run, died = Run(rig.runs), Run(rig.runs, "died", owner={**run_files.own_process(), "start_ticks": 1})
    lives = Run(rig.runs, "lives")
    for each in (run, died, lives):
        each.prints(b"words\n")
    run.ends()
    rig.follow()
    await eventually(lambda: not run.directory.exists() and not died.directory.exists())
    assert lives.directory.exists()

    async def is_followed() -> bool:
        return len(await rig.events("output.chunk")) == 3

    await eventually(is_followed)
