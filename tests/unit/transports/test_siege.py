"""Readers of every pace beside each other, told by a seed: whatever they do between, each one's stream is whole."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.ids import Cursor, new_event_id
from claude_loop.ring import Ring
from claude_loop.transports.pace import PumpTiming
from tests.unit.transports.socketio_rig import CLOCK, Clients, Packets, Rig, serving

LAST = "the.last"
BURST = 300


class Reader:
    """Subscribes anew where it is, publishes, looks at the state and falls behind, and checks what it is told."""

    def __init__(self, seed: str, client: Packets) -> None:
        self._chance = random.Random(seed)
        self._client = client
        self._cursor: str | None = None
        self._left = 15
        self.seqs: set[int] = set()

    async def read(self) -> None:
        await self._subscribe()
        while True:
            name, payload = await self._client.next()
            if name == "ack 1":
                self._cursor = payload["cursor"]  # what came since it was asked for comes again
            elif name == "events":
                if self._take(payload):
                    return
                if self._left:  # not for ever: what readers publish is read by readers
                    self._left -= 1
                    await self._do_something()

    def _take(self, frame: dict[str, Any]) -> bool:
        """Whether it holds the last event of all."""
        assert frame["prev"] == self._cursor
        self._cursor = frame["upto"]
        first, last = Cursor.parse(frame["prev"]).seq + 1, Cursor.parse(frame["upto"]).seq
        assert [event["seq"] for event in frame["events"]] == list(range(first, last + 1))
        self.seqs.update(range(first, last + 1))
        return any(event["type"] == LAST for event in frame["events"])

    async def _do_something(self) -> None:
        match self._chance.randrange(7):
            case 0:
                await asyncio.sleep(self._chance.random() * 0.05)
            case 1:
                await self._client.send("event", {"type": "by.reader", "data": {"text": "x" * 3000}}, ack=0)
            case 2:
                await self._client.send("watch", {}, ack=0)
            case 3:
                await self._client.websocket.ping()
            case 4:
                await self._client.send("subscribe_prd", {"prd_id": "PRD-001", "history": 3}, ack=0)
            case 5:
                await self._subscribe()

    async def _subscribe(self) -> None:
        size = self._chance.choice([20, 100, 256])
        await self._client.send("subscribe", {"from": self._cursor or "start", "max_batch": size}, ack=1)


async def publish(rig: Rig, chance: random.Random) -> None:
    for _ in range(10):
        events = [Event("note.made", {"n": n}, id=new_event_id(CLOCK), prd_id="PRD-001") for n in range(BURST)]
        await rig.hub.publish(events[: chance.choice([1, 5, BURST])])
        await asyncio.sleep(chance.random() * 0.02)
    await rig.emit(LAST)


@pytest.mark.parametrize("seed", ["a", "b"])
async def test_each_readers_stream_is_whole(seed: str) -> None:
    timing = PumpTiming(quiet=0.05)
    hub = Hub(MemoryEventLog(clock=CLOCK), EventBus(), ring=Ring(max_events=300))  # who lags reads the log
    await hub.start()
    async with serving(hub=hub, timing=timing) as rig, Clients(rig) as clients:
        readers = [Reader(f"{seed}{number}", await clients.join()) for number in range(5)]
        async with asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(reader.read())
            tasks.create_task(publish(rig, random.Random(seed)))
        for reader in readers:
            assert reader.seqs == set(range(1, max(reader.seqs) + 1))
    await hub.stop()
