"""python-socketio's own clients, on every transport, against the real server."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest
import socketio

from tests.support import eventually
from tests.unit.transports.socketio_rig import Clients, serving

TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]]


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_plain_client_needs_no_configuration(transports: list[str]) -> None:
    """`socketio.Client()` and one line, no token: what existing monitors do."""
    got: list[tuple[str, Any]] = []
    async with serving() as rig:
        client = socketio.Client(reconnection=False)
        client.on("*", lambda name, payload=None: got.append((name, payload)))

        def run() -> None:
            client.connect(rig.url, transports=transports)
            client.emit("subscribe_prd", {"prd_id": "PRD-001"})

        thread = threading.Thread(target=run)
        thread.start()
        await eventually(lambda: ("subscribed", {"prd_id": "PRD-001"}) in got)
        sent = [await rig.emit(prd_id=prd) for prd in ("PRD-002", "PRD-001", None)]
        await eventually(lambda: ("event", sent[2].as_dict()) in got)
        await asyncio.to_thread(client.disconnect)
        thread.join()
        assert [payload["seq"] for name, payload in got if name == "event"] == [sent[1].seq, sent[2].seq]
        await eventually(lambda: not rig.transport.clients)


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_publish_and_subscribe(transports: list[str]) -> None:
    async with serving() as rig, Clients(rig) as clients:
        reader, got = await clients.python(transports=transports)
        answer = await reader.call("subscribe", {"filter": {"types": ["note.*"]}, "from": "now"})
        writer, _ = await clients.python(transports=transports)
        for n in range(40):
            await writer.emit("event", {"type": "note.made", "id": f"e-{n}"})
        last = await writer.call("event", {"type": "note.made", "id": "e-40"})
        assert last == {"id": "e-40", "seq": 41, "duplicate": False}

        def received() -> list[str]:
            return [event["id"] for name, frame in got if name == "events" for event in frame["events"]]

        await eventually(lambda: len(received()) == 41)
        assert received() == [f"e-{n}" for n in range(41)]
        frames = [frame for name, frame in got if name == "events"]
        assert frames[0]["prev"] == answer["cursor"]
        assert all(one["upto"] == two["prev"] for one, two in itertools.pairwise(frames))


@pytest.mark.parametrize("transports", [["polling"], ["polling", "websocket"]])
async def test_a_burst_of_single_events(transports: list[str]) -> None:
    """More than 16 packets in one polling response would end the client; an upgrade in between must lose nothing."""
    async with serving() as rig, Clients(rig) as clients:
        client, got = await clients.python(transports=transports)
        await client.call("subscribe_prd", {"prd_id": "PRD-001"})
        await rig.emit_many(500)
        await eventually(lambda: sum(name == "event" for name, _ in got) >= 500)
        assert [payload["seq"] for name, payload in got if name == "event"] == list(range(1, 501))
        assert client.connected


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]])
async def test_many_answers_at_once(transports: list[str]) -> None:
    async with serving() as rig, Clients(rig) as clients:
        client, _ = await clients.python(transports=transports)
        answers: list[Any] = []
        for n in range(100):
            await client.emit("event", {"type": "x.y", "id": f"e-{n}"}, callback=answers.append)
        await eventually(lambda: len(answers) == 100)
        assert [answer["seq"] for answer in answers] == list(range(1, 101))
        assert client.connected


async def test_events_during_the_upgrade_are_not_lost() -> None:
    """The pump is running while the client changes from polling to websocket."""
    async with serving() as rig, Clients(rig) as clients:
        stop = asyncio.Event()

        async def busy() -> None:
            while not stop.is_set():
                await rig.emit()
                await asyncio.sleep(0)

        emitting = asyncio.create_task(busy())
        for _ in range(5):
            client, got = await clients.python(auth={"subscribe": {"from": "now"}})
            await eventually(lambda: client.transport() == "websocket")  # noqa: B023
            await eventually(lambda: sum(name == "events" for name, _ in got) > 5)  # noqa: B023
            frames = [frame for name, frame in got if name == "events"]
            greeting = next(payload for name, payload in got if name == "connected")
            cursor = greeting["subscription"]["cursor"]
            for frame in frames:
                assert frame["prev"] == cursor
                cursor = frame["upto"]
            await client.disconnect()
        stop.set()
        await emitting
