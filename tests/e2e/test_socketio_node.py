"""Node's own socket.io-client against the real transport, on every transport it has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.hub import Hub
from claude_loop.settings import Settings
from tests.requirements import NODE_FOLDER, find_node
from tests.support import PATIENCE, eventually, free_port
from tests.unit.transports.socketio_rig import TOKEN, serving

pytestmark = pytest.mark.requires("node")
TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]]


class NodeClient:
    """What the client has printed so far."""

    def __init__(self) -> None:
        self.lines: list[list[Any]] = []

    def got(self, name: str) -> list[Any]:
        return [line[1] for line in self.lines if line[0] == name and len(line) > 1]

    def events(self) -> list[int]:
        """The ``seq`` of everything it was sent, in order."""
        seqs: list[int] = []
        for name, payload in ((line[0], line[1]) for line in self.lines if len(line) > 1):
            if name == "event":
                seqs.append(payload["seq"])
            elif name == "events":
                seqs += [event["seq"] for event in payload["events"]]
        return seqs


@asynccontextmanager
async def node(url: str, **options: Any) -> AsyncIterator[NodeClient]:
    process = await asyncio.create_subprocess_exec(
        str(find_node()),
        str(NODE_FOLDER / "socketio_client.mjs"),
        url,
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=16 * 1024 * 1024,
    )
    client = NodeClient()
    assert process.stdout is not None
    assert process.stdin is not None
    stdout = process.stdout

    async def read() -> None:
        while line := await stdout.readline():
            client.lines.append(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        yield client
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_watch_publish_and_subscribe(transports: list[str]) -> None:
    async with serving() as rig:
        await rig.emit_many(5)
        emit = [
            ["subscribe_prd", {"prd_id": "PRD-001", "history": 3}],
            ["event", {"type": "note.made", "id": "from-node", "prd_id": "PRD-001"}],
            ["event", {"type": "note.made", "colour": "red"}],
            ["subscribe", {"filter": {"types": ["story.*"]}}],
        ]
        async with node(rig.url, transports=transports, emit=emit) as client:
            await eventually(lambda: sum(line[0] == "answer" for line in client.lines) == 4)
            answers = [line[2] for line in client.lines if line[0] == "answer"]
            assert answers[0] == {"ok": True}
            assert answers[1] == {"id": "from-node", "seq": 6, "duplicate": False}
            assert answers[2]["error"]["code"] == "unknown_field"
            assert answers[3]["status"] == "fresh"
            await rig.emit(prd_id="PRD-002")
            story = await rig.emit("story.told", prd_id="PRD-002")
            await eventually(lambda: client.got("events"))
            assert client.got("subscribed") == [{"prd_id": "PRD-001"}]
            assert [event["seq"] for event in client.got("event")] == [3, 4, 5, 6]
            assert [event["id"] for frame in client.got("events") for event in frame["events"]] == [story.id]
        await eventually(lambda: not rig.transport.clients)


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_follows_across_restarts_without_gap_or_repeat(transports: list[str]) -> None:
    hub = Hub(MemoryEventLog(), EventBus())
    await hub.start()
    settings = Settings(port=free_port())
    url = f"http://127.0.0.1:{settings.port}"
    async with node(url, transports=transports, follow=True, **{"from": "start"}) as client:
        for _ in range(3):
            async with serving(hub=hub, settings=settings) as rig:
                await rig.emit_many(300)
                await eventually(lambda: len(client.events()) >= hub.state.head)
                await rig.emit_many(40)
        assert client.got("gap") == []
        async with serving(hub=hub, settings=settings):
            await eventually(lambda: len(client.events()) >= hub.state.head)
        assert client.events() == list(range(1, hub.state.head + 1))
        assert len(client.got("bye")) >= 3
    await hub.stop()


async def test_a_burst_over_polling() -> None:
    """Node puts everything it has into one request: hundreds of packets."""
    async with serving() as rig:
        emit = [["subscribe_prd", {"prd_id": "*"}]]
        async with node(rig.url, transports=["polling"], emit=emit) as client:
            await eventually(lambda: client.got("subscribed"))
            await rig.emit_many(500)
            await eventually(lambda: len(client.events()) == 500)
            assert client.events() == list(range(1, 501))


async def test_refused_connect_tells_why() -> None:
    async with serving(settings=Settings(port=0, auth={"loopback": "token"})) as rig:
        async with node(rig.url, auth={"token": "wrong"}) as client:
            refused = await eventually(lambda: [line for line in client.lines if line[0] == "connect_error"])
            _, text, refusal = refused[0]
            assert refusal["code"] == "unauthorized"
            assert text == refusal["message"]
        async with node(rig.url, auth={"token": TOKEN}) as client:
            await eventually(lambda: client.got("connected"))
