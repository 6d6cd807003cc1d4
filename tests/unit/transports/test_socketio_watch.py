"""`watch`: the live state over Socket.IO, as real clients see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.hub import Hub
from claude_loop.progress.keys import prd_key, run_key, story_key
from claude_loop.progress.patches import apply_patches
from claude_loop.progress.projection import ProgressProjection
from claude_loop.progress.state_feed import StateFeed
from claude_loop.progress.views import Moment, list_cards
from claude_loop.settings import Settings
from tests.support import eventually
from tests.unit.transports.socketio_rig import CLOCK, TOKEN, Clients, Packets, Rig, masked, serving

STALLED_MS = 300_000


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub(MemoryEventLog(ProgressProjection(), CLOCK), EventBus())
    await hub.start()
    yield hub
    await hub.stop()


@pytest.fixture
def state(hub: Hub) -> StateFeed:
    return StateFeed(hub.log, CLOCK, STALLED_MS)


@pytest.fixture
async def rig(hub: Hub, state: StateFeed) -> AsyncIterator[Rig]:
    async with serving(hub=hub, state=state) as running:
        yield running


async def patched(client: Packets, documents: dict[str, Any], seq: int) -> list[dict[str, Any]]:
    """Apply frames until the one that holds ``seq``; the frames."""
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1]["seq"] < seq:
        frames.append(await client.until("patches"))
        apply_patches(documents, frames[-1]["patches"])
    return frames


async def test_the_answer_has_all_a_page_needs(rig: Rig, clients: Clients) -> None:
    run = await rig.emit("prd.started")
    client = await clients.join()
    answer = await client.call("watch")
    now = answer.pop("now")
    assert abs(now - CLOCK.now_us() // 1000) < 60_000
    assert set(answer.pop("documents")) == {prd_key(None, "PRD-001"), run_key(None, "PRD-001", run.id)}
    assert answer == {"ok": True, "seq": 1, "cursor": str(rig.hub.state.head_cursor), "stalled_after_ms": STALLED_MS}


@pytest.mark.parametrize("project", [None, ""])
async def test_documents_follow_the_events_and_are_those_of_the_cards(
    rig: Rig, clients: Clients, project: str | None
) -> None:
    client = await clients.join()
    answer = await client.call("watch", {"prd": {"prd_id": "PRD-001", "project": project}})
    documents = answer["documents"]
    assert documents == {}
    run = await rig.emit("prd.started")
    await rig.emit("story.started", story_id="US-1")
    last = await rig.emit("prd.started", prd_id="PRD-002")
    frames = await patched(client, documents, last.seq)
    assert all(abs(frame["now"] - CLOCK.now_us() // 1000) < 60_000 for frame in frames)
    assert story_key(None, "PRD-001", run.id, "US-1") in documents
    for card in await list_cards(rig.hub.log, Moment(CLOCK.now_us() // 1000, STALLED_MS)):
        shown = documents[run_key(None, card["prd_id"], card["run_id"])]
        assert shown == {key: card[key] for key in shown}  # type: ignore[literal-required]


async def test_many_events_make_few_frames(rig: Rig, clients: Clients) -> None:
    await rig.emit("prd.started")
    client = await clients.join()
    documents = (await client.call("watch"))["documents"]
    for n in range(200):
        last = await rig.emit("iteration.started", data={"iteration": n})
    frames = await patched(client, documents, last.seq)
    assert len(frames) <= 100, "each frame merges what came in its window"
    (run,) = [document for key, document in documents.items() if key.startswith("run/")]
    assert run["iteration"] == 199


async def test_a_watcher_is_no_onlooker_and_a_second_watch_replaces_the_first(
    rig: Rig, clients: Clients, state: StateFeed
) -> None:
    client = await clients.join()
    await client.call("watch", ack=1)
    await client.call("watch", {"prd": {"prd_id": "PRD-001", "project": None}}, ack=2)
    await eventually(lambda: len(state) == 1)
    await rig.emit("story.started", story_id="US-1")
    frame = await client.until("patches")
    assert any(patch["path"][0].startswith("story/") for patch in frame["patches"])
    await client.nothing_for(0.15)
    assert [name for name, _ in client.seen if name == "event"] == []


async def test_a_client_that_leaves_is_watched_for_no_more(clients: Clients, state: StateFeed) -> None:
    client = await clients.join()
    await client.call("watch")
    assert len(state) == 1
    await client.close()
    await eventually(lambda: len(state) == 0)


async def test_python_client_with_its_own_library(rig: Rig, clients: Clients) -> None:
    client, got = await clients.python()
    answer = await client.call("watch", {})
    assert answer["ok"] is True
    await rig.emit("prd.started")
    await eventually(lambda: any(name == "patches" for name, _ in got))


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ([], None),
        ({"x": 1}, "x"),
        ({"prd": 1}, "prd"),
        ({"prd": {}}, "prd.prd_id"),
        ({"prd": {"prd_id": 1}}, "prd_id"),
        ({"prd": {"prd_id": "P", "story": "S"}}, "story"),
        ({"prd": {"prd_id": "P", "project": 7}}, "project"),
        ({"prd": {"prd_id": "P", "run_id": "x" * 129}}, "run_id"),
    ],
)
async def test_bad_requests_name_the_field(clients: Clients, state: StateFeed, payload: Any, field: str | None) -> None:
    client = await clients.join()
    answer = await client.call("watch", payload)
    assert answer["ok"] is False
    assert answer["error"]["code"] == "invalid_request"
    assert answer["error"].get("field") == field
    assert len(state) == 0


async def test_who_may_not_read_may_not_watch(hub: Hub) -> None:
    settings = Settings(port=0)
    async with serving(hub=hub, settings=settings) as rig, Clients(rig) as clients:
        client = await clients.join({"token": TOKEN})
        (kept,) = rig.transport._by_sid.values()
        kept.principal = type(kept.principal)("session", frozenset({"emit"}))
        answer = await client.call("watch")
        assert answer["error"]["code"] == "forbidden"


async def test_a_client_that_does_not_read_is_not_queued_for(rig: Rig, clients: Clients, state: StateFeed) -> None:
    raw = await clients.stalled("40")
    await eventually(lambda: rig.transport.clients)
    raw_sid = next(iter(rig.transport.clients))
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(raw, masked('420["watch",{}]'))
    await eventually(lambda: len(state) == 1)
    for n in range(600):
        await rig.emit("prd.started", prd_id=f"PRD-{n:04}", data={"title": "x" * 200})
        if n % 50 == 0:
            await asyncio.sleep(0)
    client = rig.transport._by_sid[raw_sid]
    assert len(client.socket.queue) <= 2, "one frame in flight, however much has changed"
