"""A real daemon with clients that stop reading: the others go on, and its memory stays where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import socketio

from tests.e2e.daemon import Daemon
from tests.support import eventually
from tests.unit.transports.socketio_rig import Clients

EVENTS = 10_000


@pytest.fixture
def daemon(home: Path) -> Iterator[Daemon]:
    made = Daemon(home)
    made.start()
    yield made
    assert made.stop() == 0


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def publish(http: aiohttp.ClientSession, daemon: Daemon, count: int) -> None:
    line = orjson.dumps({"type": "note.made", "prd_id": "PRD-001", "data": {"text": "x" * 200}}) + b"\n"
    for _ in range(count // 1000):
        async with http.post(
            f"{daemon.url}/api/events", data=line * 1000, headers={"Content-Type": "application/x-ndjson"}
        ) as answer:
            assert answer.status == 200, await answer.text()


async def reader(
    http: aiohttp.ClientSession, daemon: Daemon, start: str = "now"
) -> tuple[socketio.AsyncClient, list[int]]:
    client = socketio.AsyncClient(http_session=http, reconnection=False)
    got: list[int] = []

    async def keep(frame: dict[str, Any]) -> None:
        got.extend(event["seq"] for event in frame["events"])

    client.on("events", keep)
    await client.connect(daemon.url, auth={"subscribe": {"from": start}}, transports=["websocket"])
    return client, got


@pytest.mark.requires("linux")
async def test_stalled_clients_cost_no_memory_and_nobody_elses_time(daemon: Daemon) -> None:
    async with aiohttp.ClientSession() as http, Clients(daemon) as stalling:  # type: ignore[arg-type]
        client, got = await reader(http, daemon)
        # First the ring, the log's caches and the allocator reach their size: reading history costs memory once.
        await publish(http, daemon, 2 * EVENTS)
        await eventually(lambda: len(got) == 2 * EVENTS)
        other, history = await reader(http, daemon, "start")
        await other.call("subscribe_prd", {"prd_id": "PRD-001", "history": 1000})
        await eventually(lambda: len(history) == 2 * EVENTS)
        await other.shutdown()
        before = resident_mb(daemon.pid)
        for ask in ('["subscribe",{"from":"start"}]', '["subscribe_prd",{"prd_id":"PRD-001","history":1000}]') * 2:
            await stalling.stalled("40", "420" + ask)

        async def readers() -> bool:
            async with http.get(f"{daemon.url}/health") as answer:
                return (await answer.json())["subscriptions"] == 5

        await eventually(readers)
        await publish(http, daemon, EVENTS)
        await eventually(lambda: len(got) == 3 * EVENTS)
        assert got == list(range(1, 3 * EVENTS + 1))
        # What the burst of events itself took is given back when the index has come to rest behind it.
        await eventually(lambda: resident_mb(daemon.pid) - before < 5, what="four stalled clients take 5 MB for good")
        await client.shutdown()
