"""A Socket.IO transport on a real server, and clients of every kind to talk to it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import orjson
import socketio
from aiohttp import web

from claude_loop.clock import SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.intake.accept import Acceptor
from claude_loop.settings import Settings
from claude_loop.transports.auth import Authenticator
from claude_loop.transports.gate import ENGINE_IO, Gate
from claude_loop.transports.listeners import Listeners
from claude_loop.transports.socketio import SocketIOTransport
from tests.support import PATIENCE, eventually

TOKEN = "t" * 43
CLOCK = SystemClock()


@dataclass
class Rig:
    """A running server. ``emit`` publishes beside it, as the spool would."""

    url: str
    port: int
    hub: Hub
    transport: SocketIOTransport
    app: web.Application
    listeners: Listeners

    async def emit(self, type_: str = "note.made", prd_id: str | None = "PRD-001", **fields: Any) -> Event:
        data = fields.pop("data", {})
        event = Event(type_, data, id=new_event_id(CLOCK), prd_id=prd_id, at=CLOCK.now_us() // 1000, **fields)
        await self.hub.publish([event])
        return event

    async def emit_many(self, count: int, type_: str = "note.made", **fields: Any) -> list[Event]:
        return [await self.emit(type_, data={"n": n}, **fields) for n in range(count)]

    @property
    def engine(self) -> Any:
        return self.transport._server.eio  # what is left behind inside is what these tests are about


@asynccontextmanager
async def serving(
    *, settings: Settings | None = None, hub: Hub | None = None, authenticator: Any = None, **options: Any
) -> AsyncIterator[Rig]:
    """A server on a free port. ``options`` go to ``SocketIOTransport``."""
    settings = settings or Settings(port=0)
    own_hub = hub is None
    if hub is None:
        hub = Hub(MemoryEventLog(clock=CLOCK), EventBus())
        await hub.start()
    acceptor = Acceptor(settings.limits, settings.redact, CLOCK)
    trust = Authenticator(TOKEN, session_of=lambda _token: None, loopback=settings.auth.loopback)
    transport = SocketIOTransport(hub, acceptor, authenticator or trust, settings, CLOCK, "0.0.0", **options)
    access = {"GET /socket.io/": ENGINE_IO, "POST /socket.io/": ENGINE_IO}
    app = web.Application()
    transport.attach(app)
    Gate(trust, settings, access, handshake_principal=transport.handshake_principal).install(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listeners = Listeners(settings)
    listeners.bind()
    assert runner.server is not None
    await listeners.serve(runner.server)
    try:
        yield Rig(listeners.url, listeners.port, hub, transport, app, listeners)
    finally:
        await transport.close(seconds=0.5)
        listeners.close()
        await runner.cleanup()
        if own_hub:
            await hub.stop()


@dataclass
class Packets:
    """A bare Socket.IO client over a websocket: it sees the packets as they come."""

    websocket: aiohttp.ClientWebSocketResponse
    greeting: dict[str, Any]
    seen: list[tuple[str, Any]] = field(default_factory=list)

    async def packet(self, seconds: float = PATIENCE) -> str:
        """The next packet but pings, which are answered. Raises ``EOFError`` at the end."""
        while True:
            message = await self.websocket.receive(timeout=seconds)
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise EOFError(message.type.name)
            if message.data == "2":
                await self.websocket.send_str("3")
                continue
            return str(message.data)

    async def next(self, seconds: float = PATIENCE) -> tuple[str, Any]:
        """The next event or answer: ``(name, payload)``, ``("ack 7", payload)``."""
        packet = await self.packet(seconds)
        kind, rest = packet[:2], packet[2:]
        if kind == "42":
            name, payload = orjson.loads(rest)
        elif kind == "43":
            number, _, body = rest.partition("[")
            name, payload = f"ack {number}", orjson.loads("[" + body)[0]
        else:
            name, payload = kind, orjson.loads(rest) if rest else None
        self.seen.append((name, payload))
        return name, payload

    async def until(self, wanted: str, seconds: float = PATIENCE) -> Any:
        """The payload of the next ``wanted``; what comes before is kept in ``seen``."""
        while True:
            name, payload = await self.next(seconds)
            if name == wanted:
                return payload

    async def nothing_for(self, seconds: float) -> None:
        try:
            got = await self.next(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected: {got}")

    async def send(self, name: str, payload: Any = None, ack: int | None = None) -> None:
        await self.websocket.send_str(f"42{'' if ack is None else ack}{json.dumps([name, payload])}")

    async def call(self, name: str, payload: Any = None, ack: int = 1) -> Any:
        await self.send(name, payload, ack)
        return await self.until(f"ack {ack}")

    async def close(self) -> None:
        await self.websocket.close()


class Clients:
    """Makes clients and closes what is left of them."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._http = aiohttp.ClientSession()
        self._sio: list[socketio.AsyncClient] = []
        self._sockets: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        for each in self._sockets:
            each.close()
        for client in self._sio:
            await client.shutdown()
        await self._http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        return self._http

    async def open(self, auth: Any = None, *, connect: bool = True, query: str = "", **options: Any) -> Packets:
        """A bare websocket client, connected to the namespace unless ``connect`` is false."""
        url = f"{self._rig.url}/socket.io/?EIO=4&transport=websocket{query}"
        websocket = await self._http.ws_connect(url, autoping=True, max_msg_size=0, **options)
        opened = await websocket.receive_str(timeout=PATIENCE)
        client = Packets(websocket, orjson.loads(opened[1:]))
        if connect:
            await websocket.send_str("40" + ("" if auth is None else orjson.dumps(auth).decode()))
        return client

    async def join(self, auth: Any = None) -> Packets:
        """A bare client that has been told `connected`."""
        client = await self.open(auth)
        name, _ = await client.next()
        assert name == "40", client.seen
        await client.until("connected")
        return client

    async def python(self, *, auth: Any = None, **options: Any) -> tuple[socketio.AsyncClient, list[tuple[str, Any]]]:
        """python-socketio's own client, and the list of what it is sent."""
        # A session of its own would be left open by the client when the server ends the connection.
        client = socketio.AsyncClient(http_session=self._http, reconnection=False)
        got: list[tuple[str, Any]] = []

        async def keep(name: str, payload: Any = None) -> None:
            got.append((name, payload))

        client.on("*", keep)
        self._sio.append(client)
        await client.connect(self._rig.url, auth=auth, **options)
        await eventually(lambda: any(name == "connected" for name, _ in got))
        return client, got

    async def stalled(self, *messages: str, receive_buffer: int | None = 4096) -> socket.socket:
        """A websocket that sends ``messages`` and then never reads again."""
        loop = asyncio.get_running_loop()
        raw = socket.socket()
        self._sockets.append(raw)
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", self._rig.port))
        await loop.sock_sendall(raw, handshake(self._rig.port))
        await loop.sock_recv(raw, 1024)
        for message in messages:
            await loop.sock_sendall(raw, masked(message))
        return raw


def handshake(port: int, query: str = "") -> bytes:
    """A websocket upgrade request for Engine.IO."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def masked(text: str) -> bytes:
    """A text frame as a client sends it; the mask of zeros changes nothing."""
    body = text.encode()
    size = len(body)
    head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0x80 | 126]) + size.to_bytes(2, "big")
    return head + bytes(4) + body


async def is_cut_off(raw: socket.socket, seconds: float = PATIENCE) -> bool:
    """Whether the other end closes or resets the connection within ``seconds``, whatever was in flight."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            while await loop.sock_recv(raw, 65_536):
                pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True
