"""The Python emitter: with a server, with none, from code that awaits and from code that cannot."""

import asyncio
import datetime as dt
import doctest
import gc
import inspect
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from claude_loop import progress_streamer
from claude_loop.errors import ShuttingDown, StorageFull
from claude_loop.event_bus import EventBus
from claude_loop.instance import InstanceLock, is_running
from claude_loop.paths import Home
from claude_loop.progress_streamer import (
    ProgressStreamer,
    emit_commit_created,
    emit_error,
    emit_prd_completed,
    emit_prd_started,
    emit_story_completed,
    emit_story_started,
    emit_test_run,
    get_progress_streamer,
    start_streaming,
)
from claude_loop.websocket_server import ClaudeLoopWebSocketServer
from tests.support import PATIENCE, ROOT, eventually, free_port


class Recorder:
    """A server as the protocol describes it; fails with ``failure`` while that is set."""

    def __init__(self):
        self.sent = []
        self.failure = None

    async def broadcast(self, event_type, data):
        await self._take(("broadcast", event_type, data))

    async def send_to_prd_subscribers(self, prd_id, event_type, data):
        await self._take((prd_id, event_type, data))

    async def _take(self, call):
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.sent.append(call)


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """Each test is a process of its own as far as the streamer knows."""
    fresh = progress_streamer._Streaming()
    monkeypatch.setattr(progress_streamer, "_process", fresh)
    return fresh


@asynccontextmanager
async def serving(port=0):
    server = ClaudeLoopWebSocketServer(port=port)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def spooled(home):
    """The events in the spool, in the order they were written."""
    lines = [line for file in sorted((home / "spool").glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines if line]


async def stored(server, count):
    """The first ``count`` events of the log, once they are there."""
    await eventually(lambda: server.hub.state.head >= count, what=f"{count} events")
    return (await server.hub.log.read(0, 1000)).events


# What each call says: (the method's name, its arguments, the type, the story, the data).
CALLS = [
    ("prd_started", {"total_stories": 3}, "prd.started", None, {"status": "running", "total_stories": 3}),
    ("story_started", {"story_id": "US-1"}, "story.started", "US-1", {"story_id": "US-1", "status": "in_progress"}),
    (
        "test_run",
        {"story_id": "US-1", "passed": 10, "failed": 2, "skipped": 1},
        "test.run",
        "US-1",
        {"story_id": "US-1", "passed": 10, "failed": 2, "skipped": 1, "total": 13},
    ),
    (
        "commit_created",
        {"story_id": "US-1", "commit_hash": "abc123", "subject": "Cart"},
        "commit.created",
        "US-1",
        {"story_id": "US-1", "commit_hash": "abc123", "subject": "Cart"},
    ),
    (
        "error_occurred",
        {"story_id": "US-1", "error": "no disk"},
        "error.occurred",
        "US-1",
        {"story_id": "US-1", "error": "no disk"},
    ),
    (
        "story_completed",
        {"story_id": "US-1", "success": False},
        "story.completed",
        "US-1",
        {"story_id": "US-1", "success": False, "status": "failed"},
    ),
    (
        "story_completed",
        {"story_id": "US-1"},
        "story.completed",
        "US-1",
        {"story_id": "US-1", "success": True, "status": "completed"},
    ),
    ("prd_completed", {"success": True}, "prd.completed", None, {"success": True, "status": "completed"}),
]
LOG_MESSAGE = (
    "log_message",
    {"story_id": None, "level": "info", "message": "half way"},
    "log.message",
    None,
    {"level": "info", "message": "half way"},
)
FUNCTIONS = {
    "prd_started": emit_prd_started,
    "story_started": emit_story_started,
    "test_run": emit_test_run,
    "commit_created": emit_commit_created,
    "error_occurred": emit_error,
    "story_completed": emit_story_completed,
    "prd_completed": emit_prd_completed,
}


# -- the promised surface ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("prd_started", ["prd_id", "extra"]),
        ("prd_completed", ["prd_id", "success", "extra"]),
        ("story_started", ["prd_id", "story_id", "extra"]),
        ("story_completed", ["prd_id", "story_id", "success", "extra"]),
        ("test_run", ["prd_id", "story_id", "passed", "failed", "extra"]),
        ("commit_created", ["prd_id", "story_id", "commit_hash", "extra"]),
        ("error_occurred", ["prd_id", "story_id", "error", "extra"]),
    ],
)
def test_methods_and_functions_have_the_same_parameters(name, parameters):
    method = getattr(ProgressStreamer, name)
    assert inspect.iscoroutinefunction(method)
    assert list(inspect.signature(method).parameters)[1:] == parameters
    assert list(inspect.signature(FUNCTIONS[name]).parameters) == parameters


def test_a_streamer_takes_a_server_and_a_bus():
    assert list(inspect.signature(ProgressStreamer).parameters)[:2] == ["ws_server", "event_bus"]
    bus, server = EventBus(), Recorder()
    streamer = ProgressStreamer(server, bus)
    assert (streamer.ws_server, streamer.event_bus, streamer.enabled) == (server, bus, True)


def test_the_examples_of_the_module_are_true():
    results = doctest.testmod(progress_streamer)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_examples_of_the_page_are_true():
    results = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert results.attempted > 10
    assert results.failed == 0


# -- with a server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "arguments", "type_", "story_id", "data"), [*CALLS, LOG_MESSAGE])
async def test_each_event_goes_on_the_bus_and_to_the_server(home, method, arguments, type_, story_id, data):
    server, heard = Recorder(), []
    streamer = ProgressStreamer(server)
    streamer.event_bus.subscribe(
        "*", lambda event: heard.append((event.type, event.prd_id, event.story_id, event.data))
    )
    await getattr(streamer, method)("PRD-001", **arguments)
    assert server.sent == [("PRD-001", type_, data)]
    assert heard == [(type_, "PRD-001", story_id, data)]
    assert not home.exists()


async def test_what_others_emit_on_the_bus_goes_to_the_server_too(home):
    server = Recorder()
    streamer = ProgressStreamer(server, EventBus())
    await streamer.event_bus.emit("note.made", {"n": 1}, prd_id="PRD-001")
    await streamer.event_bus.emit("note.made", {"n": 2})
    await streamer.event_bus.emit("note.made", {"n": 3}, "PRD-001", "US-1", project="shop", session_id="s", run_id="r")
    ids = {"project": "shop", "story_id": "US-1", "run_id": "r", "session_id": "s"}
    assert server.sent == [
        ("PRD-001", "note.made", {"n": 1}),
        ("broadcast", "note.made", {"n": 2}),
        ("PRD-001", "note.made", {"n": 3, **ids}),
    ]


async def test_a_real_server_stores_them_with_all_their_ids(home):
    async with serving() as server:
        streamer = ProgressStreamer(server)
        for method, arguments, *_ in [*CALLS, LOG_MESSAGE]:
            await getattr(streamer, method)("PRD-001", **arguments)
        events = await stored(server, 9)
        expected = [(type_, story_id, data) for _, _, type_, story_id, data in [*CALLS, LOG_MESSAGE]]
        assert [(event.type, event.story_id, event.data) for event in events] == expected
        assert {(event.prd_id, event.source) for event in events} == {("PRD-001", "python")}
        assert spooled(home) == []


async def test_the_servers_own_bus_hears_of_each_event_once_and_with_its_number():
    async with serving() as server:
        streamer = ProgressStreamer(server, server.event_bus)
        heard = []
        server.event_bus.subscribe("*", lambda event: heard.append((event.seq, event.type)))
        await streamer.story_started("PRD-001", "US-001")
        await streamer.story_completed("PRD-001", "US-001")
        await server.broadcast("note.made", {})
        await eventually(lambda: len(heard) == 3)
        assert heard == [(1, "story.started"), (2, "story.completed"), (3, "note.made")]
        assert server.hub.state.head == 3


async def test_what_comes_from_the_hub_is_never_published_again(home):
    """Even where several streamers share the server's bus, and somebody emits on it directly."""
    async with serving() as server:
        streamers = [ProgressStreamer(server, server.event_bus) for _ in range(2)]
        await server.broadcast("note.made", {})
        await streamers[0].story_started("PRD-001", "US-001")
        await eventually(lambda: server.event_bus.get_stats()["total_events"] == 2)
        assert server.hub.state.head == 2
        assert [event.type for event in await stored(server, 2)] == ["note.made", "story.started"]
        assert spooled(home) == []


async def test_a_handler_that_hangs_keeps_no_event_from_the_server():
    server = Recorder()
    streamer = ProgressStreamer(server)

    async def hang(event):
        await asyncio.Event().wait()

    streamer.event_bus.subscribe("*", hang, priority=100)
    emitting = asyncio.ensure_future(streamer.story_started("PRD-001", "US-001"))
    await eventually(lambda: server.sent)
    emitting.cancel()


# -- without a server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "arguments", "type_", "story_id", "data"), [*CALLS, LOG_MESSAGE])
async def test_without_a_server_events_go_to_the_spool(home, method, arguments, type_, story_id, data):
    streamer = ProgressStreamer()
    await getattr(streamer, method)("PRD-001", **arguments)
    (event,) = spooled(home)
    assert (event["type"], event["prd_id"], event.get("story_id"), event["data"]) == (type_, "PRD-001", story_id, data)
    assert event["source"] == "python"


@pytest.mark.parametrize(("method", "arguments", "type_", "story_id", "data"), CALLS)
def test_the_functions_write_to_the_spool(home, method, arguments, type_, story_id, data):
    FUNCTIONS[method]("PRD-001", **arguments)
    (event,) = spooled(home)
    assert (event["type"], event["prd_id"], event.get("story_id"), event["data"]) == (type_, "PRD-001", story_id, data)


async def test_the_context_of_the_loop_fills_in_what_was_not_said(home, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_PROJECT", "shop")
    monkeypatch.setenv("CLAUDE_LOOP_RUN", "run-7")
    streamer = ProgressStreamer()
    await streamer.story_started("PRD-001", "US-001")
    await streamer.event_bus.emit("note.made", {}, run_id="run-8", session_id="s")
    first, second = spooled(home)
    assert (first["project"], first["run_id"]) == ("shop", "run-7")
    assert (second["project"], second["run_id"], second["session_id"]) == ("shop", "run-8", "s")


async def test_the_daemon_takes_them_from_the_spool_when_it_is_up(home):
    emit_prd_started("PRD-001", total_stories=1)
    await ProgressStreamer().story_started("PRD-001", "US-001")
    async with serving() as server:
        events = await stored(server, 2)
        emit_prd_completed("PRD-001")
        events = await stored(server, 3)
    assert [event.type for event in events] == ["prd.started", "story.started", "prd.completed"]


# -- from code that cannot await ---------------------------------------------------------------------------------------


def test_emit_sync_without_an_event_loop(home):
    streamer, heard = ProgressStreamer(), []

    async def handler(event):
        await asyncio.sleep(0)
        heard.append(event.type)

    streamer.event_bus.subscribe("*", handler)
    streamer.emit_sync("note.made", "PRD-001", {"n": 1}, "US-001")
    assert heard == ["note.made"]
    (event,) = spooled(home)
    assert (event["prd_id"], event["story_id"], event["data"]) == ("PRD-001", "US-001", {"n": 1})


async def test_emit_sync_in_a_running_loop_spools_even_with_a_server(home):
    server, heard = Recorder(), []
    streamer = ProgressStreamer(server)

    async def handler(event):
        heard.append(event.type)

    streamer.event_bus.subscribe("*", handler)
    streamer.emit_sync("note.made", "PRD-001", {"n": 1})
    assert [event["type"] for event in spooled(home)] == ["note.made"]
    await streamer.event_bus.join()
    assert heard == ["note.made"]
    assert server.sent == []
    await streamer.story_started("PRD-001", "US-001")
    assert [type_ for _, type_, _ in server.sent] == ["story.started"]


@pytest.mark.parametrize("with_server", [True, False])
async def test_what_a_handler_emits_meanwhile_is_not_lost(home, with_server):
    streamer = ProgressStreamer(Recorder() if with_server else None)

    def answer(event):
        if event.type == "note.made":
            streamer.event_bus.emit_sync("answer.made", {}, prd_id="PRD-001")

    streamer.event_bus.subscribe("*", answer)
    streamer.emit_sync("note.made", "PRD-001", {})
    assert [event["type"] for event in spooled(home)] == ["note.made", "answer.made"]


def test_it_may_be_used_from_many_threads(home):
    def emit(number):
        for n in range(50):
            emit_story_started(f"PRD-{number}", f"US-{n}")

    threads = [threading.Thread(target=emit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = [(event["prd_id"], event["story_id"]) for event in spooled(home)]
    assert len(events) == 400
    for number in range(8):
        assert [story for prd, story in events if prd == f"PRD-{number}"] == [f"US-{n}" for n in range(50)]


async def test_an_event_does_not_overtake_those_in_the_spool():
    """Sync and async calls of one program come in the order in which it made them."""
    async with serving() as server:
        streamer = ProgressStreamer(server)
        for turn in range(5):
            streamer.emit_sync("story.started", "PRD-001", {"story_id": f"US-{turn}"}, f"US-{turn}")
            await streamer.test_run("PRD-001", f"US-{turn}", 1, 0)
            await streamer.commit_created("PRD-001", f"US-{turn}", "abc")
            streamer.emit_sync("story.completed", "PRD-001", {"story_id": f"US-{turn}", "success": True}, f"US-{turn}")
        events = await stored(server, 20)
    order = ["story.started", "test.run", "commit.created", "story.completed"]
    assert [event.type for event in events] == order * 5
    assert [event.story_id for event in events] == [f"US-{turn}" for turn in range(5) for _ in range(4)]


# -- nothing fails the caller ------------------------------------------------------------------------------------------


class Odd:
    def __str__(self):
        return "odd"


def awkward():
    circle = {"n": 1}
    circle["again"] = circle
    return {
        "path": Path("/tmp/x"),
        "when": dt.date(2026, 1, 26),
        "bytes": b"\xff",
        "set": {7},
        "nan": math.nan,
        "object": Odd(),
        "surrogate": "\ud800",
        "keys": {(1, 2): "pair", 3: "number"},
        "circle": circle,
    }


@pytest.mark.parametrize("with_server", [True, False])
async def test_what_json_cannot_hold_is_written_out(home, with_server):
    if with_server:
        async with serving() as server:
            streamer = ProgressStreamer(server)
            await streamer.story_started("PRD-001", "US-001", **awkward())
            (event,) = await stored(server, 1)
            data = event.data
    else:
        streamer = ProgressStreamer()
        await streamer.story_started("PRD-001", "US-001", **awkward())
        (event,) = spooled(home)
        data = event["data"]
    assert streamer.lost == 0
    assert (data["story_id"], data["path"], data["when"]) == ("US-001", "/tmp/x", "2026-01-26")
    assert (data["bytes"], data["set"], data["nan"], data["object"]) == (str(b"\xff"), [7], "nan", "odd")
    assert data["keys"] == {"(1, 2)": "pair", "3": "number"}
    assert data["circle"]["again"]["again"]["n"] == 1


def test_data_that_is_no_mapping_and_counts_that_are_no_numbers_are_kept_for_what_they_are(home):
    ProgressStreamer().emit_sync("note.made", "PRD-001", ["not", "a", "mapping"])
    emit_test_run("PRD-001", "US-001", "many", None)
    emit_error("PRD-001", None, ValueError("no such coupon"))
    note, tests, error = spooled(home)
    assert note["data"] == {"value": ["not", "a", "mapping"]}
    assert tests["data"] == {"story_id": "US-001", "passed": "many", "failed": None}
    assert error["data"]["error"] == "no such coupon"


class Unspeakable:
    def __str__(self):
        raise RuntimeError("no words")


async def test_what_cannot_even_be_written_out_is_counted_as_lost(home):
    streamer = ProgressStreamer()
    await streamer.story_started("PRD-001", "US-001", thing=Unspeakable())
    streamer.emit_sync("note.made", "PRD-001", {"thing": Unspeakable()})
    assert streamer.lost == 2
    await streamer.story_started("PRD-001", "US-001")
    assert len(spooled(home)) == 1


async def test_a_home_that_cannot_be_written_is_the_daemons_trouble_not_the_callers(home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file, where a directory should be")
    streamer = ProgressStreamer()
    await streamer.story_started("PRD-001", "US-001")
    emit_story_started("PRD-001", "US-001")
    assert streamer.lost == get_progress_streamer().lost == 1
    assert start_streaming(free_port()).ws_server is None


@pytest.mark.parametrize("failure", [StorageFull("no room"), ShuttingDown("stopping"), RuntimeError("a defect")])
async def test_what_a_server_does_not_take_the_spool_keeps(home, failure):
    server = Recorder()
    server.failure = failure
    streamer = ProgressStreamer(server)
    await streamer.story_started("PRD-001", "US-001")
    await streamer.event_bus.emit("note.made", {})
    assert [event["type"] for event in spooled(home)] == ["story.started", "note.made"]
    assert streamer.lost == streamer.event_bus.handler_failures == 0
    server.failure = None
    await streamer.story_completed("PRD-001", "US-001")
    assert [type_ for _, type_, _ in server.sent] == ["story.completed"]


async def test_what_breaks_a_rule_is_kept_and_marked(home):
    """The server refuses it; from the spool it is stored with the reason."""
    async with serving() as server:
        streamer = ProgressStreamer(server)
        await streamer.test_run("PRD-001", "US-001", passed="many", failed=0)
        (event,) = await stored(server, 1)
    assert event.type == "test.run"
    assert event.data["passed"] == "many"
    assert event.data["_invalid"]


async def test_a_server_of_another_event_loop_gets_it_through_the_spool(home):
    async with serving() as server:
        streamer = ProgressStreamer(server)
        await asyncio.to_thread(asyncio.run, streamer.story_started("PRD-001", "US-001"))
        (event,) = await stored(server, 1)
        assert event.type == "story.started"
    assert streamer.lost == 0


async def test_a_server_that_was_stopped_leaves_it_to_the_spool(home):
    async with serving() as server:
        streamer = ProgressStreamer(server)
    await streamer.story_started("PRD-001", "US-001")
    assert [event["type"] for event in spooled(home)] == ["story.started"]


@pytest.mark.parametrize("value", ["1", "true"])
async def test_disabled_every_call_does_nothing(home, monkeypatch, value):
    monkeypatch.setenv("CLAUDE_LOOP_DISABLE", value)
    server = Recorder()
    streamer = ProgressStreamer(server)
    assert streamer.enabled is False
    for method, arguments, *_ in [*CALLS, LOG_MESSAGE]:
        await getattr(streamer, method)("PRD-001", **arguments)
    streamer.emit_sync("note.made", "PRD-001", {})
    await streamer.event_bus.emit("note.made", {})
    for method, arguments, *_ in CALLS:
        FUNCTIONS[method]("PRD-001", **arguments)
    assert start_streaming(free_port()).ws_server is None
    assert server.sent == []
    assert not home.exists()


async def test_it_can_be_switched_off_and_on(home):
    streamer = ProgressStreamer()
    streamer.enabled = False
    await streamer.story_started("PRD-001", "US-001")
    streamer.emit_sync("note.made", "PRD-001", {})
    await streamer.event_bus.emit("note.made", {})
    assert not home.exists()
    streamer.enabled = True
    await streamer.story_started("PRD-001", "US-001")
    assert len(spooled(home)) == 1


# -- a server that is still starting -----------------------------------------------------------------------------------


async def test_events_wait_for_the_server_in_their_order():
    server, ready = Recorder(), asyncio.get_running_loop().create_future()
    streamer = ProgressStreamer(server, ready=ready)
    waiting = [asyncio.ensure_future(streamer.story_started("PRD-001", f"US-{n}")) for n in range(5)]
    await asyncio.sleep(0.01)
    assert server.sent == []
    ready.set_result(None)
    await asyncio.gather(*waiting)
    assert [data["story_id"] for _, _, data in server.sent] == [f"US-{n}" for n in range(5)]


async def test_a_caller_that_is_cancelled_while_it_waits_leaves_its_event_and_the_others(home):
    server, ready = Recorder(), asyncio.get_running_loop().create_future()
    streamer = ProgressStreamer(server, ready=ready)
    first, second = (asyncio.ensure_future(streamer.story_started("PRD-001", f"US-{n}")) for n in (1, 2))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert [event["story_id"] for event in spooled(home)] == ["US-1"]
    assert not ready.done()
    ready.set_result(None)
    await second
    assert [data["story_id"] for _, _, data in server.sent] == ["US-2"]


@pytest.mark.parametrize("outcome", ["fails", "is cancelled"])
async def test_a_start_that_comes_to_nothing_leaves_everything_to_the_spool(home, outcome):
    server, ready = Recorder(), asyncio.get_running_loop().create_future()
    streamer = ProgressStreamer(server, ready=ready)
    waiting = asyncio.ensure_future(streamer.story_started("PRD-001", "US-1"))
    await asyncio.sleep(0.01)
    if outcome == "fails":
        ready.set_exception(StorageFull("no room"))
    else:
        ready.cancel()
    await waiting
    await streamer.story_started("PRD-001", "US-2")
    assert [event["story_id"] for event in spooled(home)] == ["US-1", "US-2"]
    assert server.sent == []


# -- start_streaming ---------------------------------------------------------------------------------------------------


def test_without_an_event_loop_it_is_a_plain_emitter(home):
    streamer = start_streaming(free_port())
    assert streamer.ws_server is None
    assert get_progress_streamer() is streamer
    assert not home.exists()


def test_the_streamer_of_a_process_is_one_whatever_thread_asks(monkeypatch):
    class Slow(ProgressStreamer):
        def __init__(self):
            time.sleep(0.02)
            super().__init__()

    monkeypatch.setattr(progress_streamer, "ProgressStreamer", Slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: get_progress_streamer(), range(4)))
    assert {id(streamer) for streamer in found} == {id(get_progress_streamer())}


async def test_where_a_daemon_runs_it_is_a_plain_emitter_to_it(home):
    Home(home).prepare()
    lock = InstanceLock(Home(home))
    lock.acquire()
    try:
        streamer = start_streaming(free_port())
        assert streamer.ws_server is None
        assert get_progress_streamer() is streamer
    finally:
        lock.release()


async def test_in_a_running_loop_it_embeds_a_server(home, process):
    port = free_port()
    streamer = start_streaming(ws_port=port)
    assert start_streaming(ws_port=port) is get_progress_streamer() is streamer
    await streamer.story_started("PRD-001", "US-001")
    assert streamer.ws_server.port == port
    assert is_running(Home(home))
    emit_story_completed("PRD-001", "US-001")
    events = await stored(streamer.ws_server, 2)
    assert [event.type for event in events] == ["story.started", "story.completed"]
    await process.tasks.close()
    assert not is_running(Home(home))
    another = start_streaming(ws_port=port)
    assert another is not streamer
    await another.story_started("PRD-001", "US-002")
    assert another.ws_server.hub.state.head == 3
    await process.tasks.close()


async def test_a_port_that_is_taken_leaves_events_in_the_spool(home, caplog):
    async with serving() as other:
        os.environ["CLAUDE_LOOP_HOME"] = str(home.with_name("another"))
        streamer = start_streaming(ws_port=other.port)
        await streamer.story_started("PRD-001", "US-001")
        assert [event["type"] for event in spooled(home.with_name("another"))] == ["story.started"]
    assert f"Port {other.port}" in caplog.text


async def test_a_start_that_fails_before_anybody_asks_is_told_once(home, process, caplog):
    async with serving() as other:
        os.environ["CLAUDE_LOOP_HOME"] = str(home.with_name("another"))
        start_streaming(ws_port=other.port)
        await eventually(process.serving.done)
    process.streamer = None
    gc.collect()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_server_that_is_ended_while_it_starts_leaves_events_to_the_spool(home, process):
    streamer = start_streaming(ws_port=free_port())
    emitting = asyncio.ensure_future(streamer.story_started("PRD-001", "US-001"))
    await asyncio.sleep(0)
    await process.tasks.close()
    async with asyncio.timeout(PATIENCE):
        await emitting
    assert [event["type"] for event in spooled(home)] == ["story.started"]


async def test_a_daemon_that_comes_first_by_a_hair_gets_the_events(home, caplog):
    caplog.set_level(logging.WARNING)
    streamer = start_streaming(free_port())
    assert streamer.ws_server is not None
    async with serving() as quicker:
        await streamer.story_started("PRD-001", "US-001")
        (event,) = await stored(quicker, 1)
    assert event.type == "story.started"
    assert caplog.text == ""


async def test_settings_that_cannot_be_do_not_fail_the_caller(home, monkeypatch, caplog):
    monkeypatch.setenv("CLAUDE_LOOP_DURABILITY", "some")
    streamer = start_streaming(free_port())
    assert streamer.ws_server is None
    assert "CLAUDE_LOOP_DURABILITY" in caplog.text


PROGRAM = """
import asyncio, sys
from claude_loop.progress_streamer import *
from claude_loop import progress_streamer as module

async def main():
    streamer = module.start_streaming(ws_port={port})
    {body}

asyncio.run(main())
module.emit_prd_completed("PRD-001")
asyncio.run(module.get_progress_streamer().log_message("PRD-001", None, "info", "after the end"))
"""


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("pass", 0),
        ("await asyncio.sleep(0)", 0),
        ("await asyncio.sleep(0.02)", 0),
        ("await streamer.story_started('PRD-001', 'US-001')", 1),
        ("task = asyncio.ensure_future(streamer.story_started('PRD-001', 'US-001')); await asyncio.sleep(0)", 1),
        (
            "streamer.event_bus.subscribe('a.b', lambda e: asyncio.sleep(9)); streamer.emit_sync('a.b', 'PRD-001', {})",
            1,
        ),
    ],
)
async def test_the_embedded_server_ends_with_the_program_and_says_nothing(home, body, count):
    program = PROGRAM.format(port=free_port(), body=body)
    line = [sys.executable, "-W", "error", "-c", program]
    done = await asyncio.to_thread(
        subprocess.run, line, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not is_running(Home(home))
    assert not Home(home).daemon_json.exists()
    async with serving() as server:
        types = [event.type for event in await stored(server, count + 2)]
    assert types[count:] == ["prd.completed", "log.message"]
    assert len(types) == count + 2


async def test_tasks_that_nobody_awaits_leave_no_warning(home, caplog):
    streamer = ProgressStreamer(Recorder())

    async def slow(event):
        await asyncio.sleep(10)

    streamer.event_bus.subscribe("*", slow)
    for n in range(5):
        streamer.emit_sync("note.made", "PRD-001", {"n": n})
    emitting = asyncio.ensure_future(streamer.story_started("PRD-001", "US-001"))
    await asyncio.sleep(0)
    emitting.cancel()
    await streamer.event_bus.close()
    del streamer, emitting
    gc.collect()  # a coroutine that was never awaited would warn now, and warnings are errors
    assert caplog.text == ""
