"""A whole server over one log: HTTP, event streams and Socket.IO behind the gate, on free ports."""

from __future__ import annotations

import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from claude_loop.clock import Clock, SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.base import EventLog
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.intake.accept import Acceptor
from claude_loop.observability.clients import Clients
from claude_loop.observability.health import Health
from claude_loop.observability.metrics import Metrics
from claude_loop.observability.published import Published
from claude_loop.observability.series import Series
from claude_loop.observability.status import Identity, SpoolSource, Status
from claude_loop.progress.keeping import Keeping
from claude_loop.progress.projection import ProgressProjection
from claude_loop.settings import Settings, load_settings
from claude_loop.supervision import TaskOwner
from claude_loop.transports.auth import Authenticator
from claude_loop.transports.gate import ENGINE_IO, Gate
from claude_loop.transports.http import HttpTransport
from claude_loop.transports.listeners import Listeners
from claude_loop.transports.pace import PumpTiming
from claude_loop.transports.socketio import SocketIOTransport
from claude_loop.transports.sse import SseTiming, SseTransport

TOKEN = "t" * 43


@dataclass
class Rig:
    """The running server. ``session`` is an HTTP client whose base is the server."""

    hub: Hub
    http: HttpTransport
    sse: SseTransport
    socketio: SocketIOTransport
    health: Health
    published: Published
    series: Series
    app: web.Application
    listeners: Listeners
    session: aiohttp.ClientSession
    clock: Clock

    @property
    def url(self) -> str:
        return self.listeners.url

    @property
    def port(self) -> int:
        return self.listeners.port

    async def emit(self, type_: str = "note.made", prd_id: str | None = "PRD-001", **fields: Any) -> Event:
        """Publish beside all transports, as the spool does."""
        data = fields.pop("data", {})
        id_ = fields.pop("id", None) or new_event_id(self.clock)
        event = Event(type_, data, id=id_, prd_id=prd_id, at=self.clock.now_us() // 1000, **fields)
        await self.hub.publish([event])
        return event

    async def emit_many(self, count: int, type_: str = "note.made", **fields: Any) -> list[Event]:
        return [await self.emit(type_, data={"n": n}, **fields) for n in range(count)]

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer, which must have ``status``."""
        async with self.session.get(path, **options) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def post(self, body: Any, status: int = 200, content_type: str = "application/json", **options: Any) -> Any:
        """Publish; ``body`` is bytes, or a value to be sent as JSON."""
        headers = {"Content-Type": content_type, **options.pop("headers", {})}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        # aiohttp warns of bytes beyond 1 MiB.
        data = io.BytesIO(raw) if len(raw) > 1_000_000 else raw
        async with self.session.post("/api/events", data=data, headers=headers, **options) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json()

    async def refusal(self, path: str, **options: Any) -> dict[str, Any]:
        """The error of a GET that fails, with its ``status``."""
        async with self.session.get(path, **options) as answer:
            assert answer.status >= 400, await answer.text()
            return {"status": answer.status, **(await answer.json())["error"]}


@asynccontextmanager
async def serving(
    log: EventLog | None = None,
    *,
    clock: Clock | None = None,
    sse: SseTiming | None = None,
    socketio: dict[str, Any] | None = None,
    spool: SpoolSource | None = None,
    port: int = 0,
    **flags: Any,
) -> AsyncIterator[Rig]:
    """Serve ``log`` (in memory by default). ``flags`` are settings, ``socketio`` options of that transport."""
    async with AsyncExitStack() as stack:
        yield await _assemble(
            stack, log, clock or SystemClock(), sse, socketio or {}, spool, load_settings(port=port, **flags)
        )


async def _assemble(
    stack: AsyncExitStack,
    log: EventLog | None,
    clock: Clock,
    timing: SseTiming | None,
    options: dict[str, Any],
    spool: SpoolSource | None,
    settings: Settings,
) -> Rig:
    hub = Hub(log or MemoryEventLog(ProgressProjection(), clock), EventBus(clock=clock))
    await hub.start()
    stack.push_async_callback(hub.stop)
    acceptor = Acceptor(settings.limits, settings.redact, clock)
    authenticator = Authenticator(TOKEN, session_of=lambda _token: None, loopback=settings.auth.loopback)
    published, metrics, health = Published(clock), Metrics(), Health(hub.log)
    options = {"timing": PumpTiming(), "write_timeout": 10.0, **options}
    socketio = SocketIOTransport(
        hub,
        acceptor,
        authenticator,
        settings,
        clock,
        "0.0.0",
        on_rejected=lambda error, _raw: published.refused("socketio", error),
        **options,
    )
    sse = SseTransport(hub, timing)
    clients = Clients({"socketio": socketio, "sse": sse})
    listeners = Listeners(settings)
    listeners.bind()
    stack.callback(listeners.close)
    identity = Identity("0.0.0", os.getpid(), listeners.url, "", clock.now_us() // 1000)
    status = Status(identity, hub, health, clients, published, clock=clock, retention=settings.retention, spool=spool)
    tasks = TaskOwner("rig")
    stack.push_async_callback(tasks.close)
    series = Series(hub, clients, published, clock, fanout_p99=socketio.fanout_p99, spool=spool)
    http = HttpTransport(
        hub,
        acceptor,
        sse,
        settings,
        clock,
        status=status,
        clients=clients,
        metrics=metrics,
        published=published,
        series=series,
        keeping=Keeping(hub, clock, tasks),
    )
    app = web.Application(client_max_size=settings.limits.body_bytes)
    http.attach(app)
    socketio.attach(app)
    access = {**http.access(), "GET /socket.io/": ENGINE_IO, "POST /socket.io/": ENGINE_IO}
    gate = Gate(
        authenticator,
        settings,
        access,
        handshake_principal=socketio.handshake_principal,
        on_refusal=metrics.refused,
    )
    gate.install(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    await listeners.serve(runner.server)
    stack.push_async_callback(sse.close)
    stack.push_async_callback(socketio.close, seconds=0.5)
    stack.callback(http.close)
    session = await stack.enter_async_context(aiohttp.ClientSession(listeners.url))
    return Rig(hub, http, sse, socketio, health, published, series, app, listeners, session, clock)
