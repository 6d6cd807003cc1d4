"""One suite over all ways to read live: server-sent events, Socket.IO, and polling over HTTP."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
import socketio

from claude_loop.supervision import TaskOwner
from tests.followers import FOLLOWERS, SocketIOFollower, SseFollower
from tests.live_server import LiveServer, hurry
from tests.support import eventually

# Polling has no connection that could stall or be ended.
STREAMS = (SseFollower, SocketIOFollower)


@pytest.fixture
async def server(home):
    async with LiveServer(home) as live:
        yield live


@pytest.fixture(params=FOLLOWERS, ids=lambda kind: kind.name)
def kind(request):
    return request.param


@asynccontextmanager
async def coming(reader, start=None):
    await reader.open(start)
    try:
        yield reader
    finally:
        await reader.close()


def following(kind, server, start=None, **filter_):
    return coming(kind(server.url, filter_), start)


async def gone_after(count, kind, server, **filter_):
    """A reader that has read so many events, from the start, and has left."""
    async with following(kind, server, "start", **filter_) as reader:
        await reader.has(count)
    return reader


# --- where reading begins


STARTS = {
    "now": ("now", []),
    "start": ("start", [1, 2, 3, 4, 5]),
    "last": ({"last": 2}, [4, 5]),
    "since": ({"since": "1970-01-01T00:00:00Z"}, [1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, id=f"{kind.name}-{name}")
        for kind in FOLLOWERS
        for name in STARTS
        if name in kind.starts
    ],
)
async def test_a_fresh_reader_gets_what_it_asked_for_and_then_what_comes(kind, server, name):
    start, expected = STARTS[name]
    await server.publish(5)
    async with following(kind, server, start) as reader:
        assert reader.status == "fresh"
        await reader.has(len(expected))
        await server.publish(3)
        assert await reader.has(len(expected) + 3) == [*expected, 6, 7, 8]
        await reader.reached(server.head)
        assert reader.resets == []


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
async def test_since_means_received_at_or_after(kind, server):
    *_, third = await server.publish(3)
    await eventually(lambda: time.time() * 1000 > third.received_at + 1)
    (fourth,) = await server.publish(1)
    async with following(kind, server, {"since": fourth.received_at / 1000}) as reader:
        assert await reader.has(1) == [4]


async def test_an_empty_log(kind, server):
    async with following(kind, server, "start") as reader:
        await server.publish(2)
        assert await reader.has(2) == [1, 2]


async def test_every_transport_gives_the_same_events_in_the_same_order(server):
    async with (
        following(FOLLOWERS[0], server, "start") as one,
        following(FOLLOWERS[1], server, "start") as two,
        following(FOLLOWERS[2], server, "start") as three,
    ):
        published = await server.publish(300, data={"text": 'é "quoted"\n', "n": 1.5})
        for reader in (one, two, three):
            await reader.has(300)
        assert one.events == two.events == three.events == [event.as_dict() for event in published]


# --- filters


async def test_filters_hold_for_the_past_and_for_the_present(kind, server):
    async def some():
        await server.publish(1, "story.started", prd_id="A", story_id="1", project="shop")
        await server.publish(1, "story.completed", prd_id="B", story_id="1", project="shop")
        await server.publish(1, "test.run", prd_id="A", story_id="2", project="blog", source="ci")
        await server.publish(1, "note.made", prd_id=None)

    await some()
    async with (
        following(kind, server, "start", prd_ids=["A"]) as by_prd,
        following(kind, server, "start", types=["story.*"], projects=["shop"]) as by_type,
        following(kind, server, "start", prd_ids=["A", "B"], story_ids=["1"]) as several,
        following(kind, server, "start", sources=["ci"]) as by_source,
        following(kind, server, "start", types=["nothing"]) as nothing,
    ):
        await some()
        assert await by_prd.has(4) == [1, 3, 5, 7]
        assert await by_type.has(4) == [1, 2, 5, 6]
        assert await several.has(4) == [1, 2, 5, 6]
        assert await by_source.has(2) == [3, 7]
        assert await nothing.has(0) == []


async def test_a_cursor_moves_past_what_the_filter_leaves_out(kind, home, monkeypatch):
    hurry(monkeypatch, write_timeout=5, quiet=0.2)
    async with LiveServer(home) as server, following(kind, server, "now", prd_ids=["MINE"]) as reader:
        await server.publish(5, prd_id="OTHER")
        await reader.reached(server.head)
        assert reader.events == []


# --- coming back


async def test_a_reader_that_comes_back_gets_exactly_what_it_missed(kind, server):
    await server.publish(3)
    async with following(kind, server, "start") as reader:
        await reader.has(3)
        await reader.reached(server.head)
    await server.publish(700)
    async with coming(reader):
        assert reader.status == "resumed"
        await server.publish(2)
        assert await reader.has(705) == list(range(1, 706))
        assert reader.resets == []


async def test_the_filter_may_change_from_one_visit_to_the_next(kind, server):
    await server.publish(1, prd_id="A")
    reader = await gone_after(1, kind, server, prd_ids=["A"])
    await server.publish(1, prd_id="A")
    await server.publish(1, prd_id="B")
    reader.filter = {"prd_ids": ["B"]}
    async with coming(reader):
        assert await reader.has(2) == [1, 3]


@pytest.mark.parametrize("reason", ["epoch", "ahead", "diverged"])
async def test_a_cursor_of_another_log_is_a_reset_and_reading_goes_on_at_the_head(kind, server, reason):
    await server.publish(5)
    epoch = server.hub.state.epoch
    reader = kind(server.url)
    reader.cursor = {
        "epoch": f"{'0' * 16}.3.{'0' * 10}",
        "ahead": f"{epoch}.99.{'0' * 10}",
        "diverged": f"{epoch}.3.{'0' * 10}",
    }[reason]
    async with coming(reader):
        assert (reader.status, reader.resets) == ("reset", [reason])
        await server.publish(2)
        assert await reader.has(2) == [6, 7]
        assert reader.resets == [reason]


async def test_a_cursor_whose_events_were_pruned_is_a_reset_and_reading_goes_on_at_the_oldest(kind, server):
    await server.publish(3)
    reader = await gone_after(3, kind, server)
    await server.publish(10)
    await server.hub.log.prune(0, 4, 100)
    async with coming(reader):
        assert await reader.has(7) == [1, 2, 3, 10, 11, 12, 13]
        assert (reader.status, reader.resets) == ("reset", ["trimmed"])


async def test_a_cursor_at_the_very_edge_of_pruning_still_resumes(kind, server):
    await server.publish(3)
    async with following(kind, server, "start") as reader:
        await reader.has(3)
        await reader.reached(server.head)
    await server.publish(4)
    await server.hub.log.prune(0, 4, 100)
    async with coming(reader):
        assert await reader.has(7) == [1, 2, 3, 4, 5, 6, 7]
        assert reader.resets == []


# --- restarts


async def test_a_restart_in_the_middle_of_a_stream_loses_and_repeats_nothing(kind, server):
    """The server stops and starts four times while events are published; the reader comes back with its cursor."""
    reader = kind(server.url)
    await reader.open("start")
    running = asyncio.Event()
    running.set()
    published = []

    async def publish():
        while True:
            await running.wait()
            published.extend(event.seq for event in await server.publish(1))

    publishing = TaskOwner("test")
    try:
        for round_ in range(4):
            publishing.spawn(publish(), "publish")
            await eventually(lambda goal=40 * (round_ + 1): len(published) >= goal)
            await publishing.close()
            await server.restart()
            await reader.close()
            await reader.open()
            assert reader.status == "resumed"
        await server.publish(1)
        total = server.hub.state.head
        assert await reader.has(total) == list(range(1, total + 1))
        assert total >= len(published) + 1
        assert reader.resets == []
    finally:
        await publishing.close()
        await reader.close()


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.name)
async def test_a_server_that_stops_ends_its_streams_at_once(kind, server):
    async with following(kind, server, "now"):
        async with asyncio.timeout(10):
            await server.stop()


# --- slow readers


async def test_a_reader_that_stalls_slows_nobody_and_comes_back_without_a_gap(kind, home, monkeypatch):
    hurry(monkeypatch, write_timeout=1.5, quiet=15)
    server = LiveServer(home)
    await server.start()
    stalled = kind(server.url)
    await stalled.open("now")
    try:
        async with following(kind, server, "now") as healthy:
            stalled.stall()
            filler = "x" * 30_000
            await server.publish(500, data={"filler": filler})  # 15 MB: more than the kernel holds for a reader
            await healthy.has(500)
            assert len(stalled.events) < 500
            if kind in STREAMS:
                await eventually(lambda: was_cut_off(server, kind.name))
        await stalled.close()
        await stalled.open()
        assert await stalled.has(500) == list(range(1, 501))
        assert stalled.resets == []
    finally:
        await stalled.close()
        await server.stop()


async def was_cut_off(server, transport):
    return (await server.get("/status"))["transports"][transport]["cut_off"] == 1


# --- what only Socket.IO has: one event a message, for clients of `subscribe_prd`


@asynccontextmanager
async def plain_client(server):
    """What existing users run: no token, no options; every message is noted."""
    client, got = socketio.AsyncClient(reconnection=False), []

    async def note(name, *payload):
        got.append((name, *payload))

    client.on("*", note)
    await client.connect(server.url)
    await eventually(lambda: any(name == "connected" for name, *_ in got))
    try:
        yield client, got
    finally:
        await client.shutdown()


def events_of(got):
    return [payload["seq"] for name, *rest in got for payload in rest if name == "event"]


async def test_a_plain_client_of_one_prd(server):
    await server.publish(1, prd_id="PRD-001")
    async with plain_client(server) as (client, got):
        await client.emit("subscribe_prd", {"prd_id": "PRD-001"})
        await eventually(lambda: ("subscribed", {"prd_id": "PRD-001"}) in got)
        await server.publish(1, prd_id="PRD-001")
        await server.publish(1, prd_id="PRD-002")
        await server.publish(1, prd_id=None)
        await server.publish(1, prd_id="PRD-001")
        await eventually(lambda: len(events_of(got)) >= 3)
        assert events_of(got) == [2, 4, 5]


async def test_history_comes_after_the_word_subscribed_and_before_what_is_new(server):
    await server.publish(6, prd_id="PRD-001")
    await server.publish(2, prd_id="OTHER")
    async with plain_client(server) as (client, got):
        await client.call("subscribe_prd", {"prd_id": "PRD-001", "history": 4})
        await server.publish(1, prd_id="PRD-001")
        await eventually(lambda: len(events_of(got)) >= 5)
        assert events_of(got) == [3, 4, 5, 6, 9]
        names = [name for name, *_ in got]
        assert names.index("subscribed") < names.index("event")


async def test_several_prds_are_held_and_given_up(server):
    async with plain_client(server) as (client, got):
        for prd_id in ("A", "B", "C"):
            await client.call("subscribe_prd", {"prd_id": prd_id})
        await client.call("unsubscribe_prd", {"prd_id": "B"})
        for prd_id in ("A", "B", "C", "D"):
            await server.publish(1, prd_id=prd_id)
        await eventually(lambda: len(events_of(got)) >= 2)
        await server.publish(1, prd_id="A")
        await eventually(lambda: len(events_of(got)) >= 3)
        assert events_of(got) == [1, 3, 5]
        assert ("unsubscribed", {"prd_id": "B"}) in got


async def test_a_client_that_never_subscribed_sees_everything(server):
    async with plain_client(server) as (_, got):
        await server.publish(1, prd_id="A")
        await server.publish(1, prd_id=None)
        await eventually(lambda: len(events_of(got)) >= 2)
        assert events_of(got) == [1, 2]
