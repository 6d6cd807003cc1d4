"""Stopping the server: everybody hears `bye`, nobody holds it up, and clients come back by themselves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
import socketio

from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.hub import Hub
from claude_loop.settings import Settings
from tests.support import eventually, free_port
from tests.unit.transports.socketio_rig import Clients, serving


async def test_bye_then_the_end() -> None:
    async with serving() as rig, Clients(rig) as clients:
        client = await clients.join()
        subscriber = await clients.join({"subscribe": {}})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rig.transport.close(reconnect_after=0.25))
            heard = [tasks.create_task(each.until("bye")) for each in (client, subscriber)]
        assert [each.result() for each in heard] == [{"reconnect_after": 0.25}] * 2
        for each in (client, subscriber):
            with pytest.raises(EOFError):
                await each.packet()
        assert rig.transport.clients == set()
        refused = await clients.http.get(f"{rig.url}/socket.io/?EIO=4&transport=polling")
        assert refused.status == 503
        assert (await refused.json())["error"]["code"] == "shutting_down"


async def test_stalled_clients_do_not_hold_up_the_end() -> None:
    async with serving() as rig, Clients(rig) as clients:
        for _ in range(3):
            await clients.stalled("40", '420["subscribe",{"from":"start"}]')
        await eventually(lambda: rig.transport.statistics()["subscriptions"] == 3)
        for _ in range(100):
            await rig.emit(data={"text": "x" * 60_000})
        began = time.monotonic()
        await rig.transport.close(seconds=0.3)
        assert time.monotonic() - began < 10
        assert rig.transport.clients == set()
        await eventually(lambda: len(rig.listeners.rules) == 0)


async def test_no_task_is_left() -> None:
    before = asyncio.all_tasks()
    async with serving() as rig, Clients(rig) as clients:
        await clients.join()
        await clients.join({"subscribe": {}})
        client, _ = await clients.python(transports=["polling"])
        await client.call("subscribe_prd", {"prd_id": "A"})
    await eventually(lambda: asyncio.all_tasks() <= before)


async def test_a_client_whose_events_cannot_be_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not believe that nothing happens."""
    async with serving() as rig, Clients(rig) as clients:
        client = await clients.join({"subscribe": {}})

        async def broken(*_arguments: object) -> None:
            raise OSError("no such disk")

        monkeypatch.setattr(rig.hub, "batch_in_memory", lambda *_arguments: None)
        monkeypatch.setattr(rig.hub, "batch_after", broken)
        await rig.emit()
        with pytest.raises(EOFError):
            await client.until("events")
        await eventually(lambda: not rig.transport.clients)


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
async def test_python_clients_come_back_after_a_restart(transports: list[str]) -> None:
    """They do not after a farewell of Engine.IO's or Socket.IO's own: to them that is a wish to be left alone."""
    hub = Hub(MemoryEventLog(), EventBus())
    await hub.start()
    settings = Settings(port=free_port())
    # A session of its own would be left open by the client when the server ends the connection.
    http = aiohttp.ClientSession()
    client = socketio.AsyncClient(http_session=http, reconnection_delay=0.05, reconnection_delay_max=0.1)
    got: list[tuple[str, Any]] = []

    async def keep(name: str, payload: Any = None) -> None:
        got.append((name, payload))

    client.on("*", keep)
    for life in (1, 2):
        async with serving(hub=hub, settings=settings) as rig:
            if life == 1:
                await client.connect(rig.url, transports=transports)
            await eventually(lambda: sum(name == "connected" for name, _ in got) == life)  # noqa: B023
            event = await rig.emit()
            await eventually(lambda: ("event", event.as_dict()) in got)  # noqa: B023
            client.reconnection = life == 1
    await eventually(lambda: sum(name == "bye" for name, _ in got) == 2)
    await client.shutdown()
    await http.close()
    await hub.stop()
