"""The Socket.IO transport: what each of the clients' events means, and what the server says of its own accord."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web

from claude_loop.clock import Clock
from claude_loop.errors import ClaudeLoopError, Unauthorized
from claude_loop.hub import Hub
from claude_loop.progress.state_feed import StateFeed
from claude_loop.settings import Settings
from claude_loop.subscription import Opened, Reset
from claude_loop.supervision import TaskOwner
from claude_loop.transports import socketio_requests as read
from claude_loop.transports.auth import Principal
from claude_loop.transports.engineio_socket import LoopSocket
from claude_loop.transports.fan_out import FanOut
from claude_loop.transports.feeds import reset_frame
from claude_loop.transports.pace import Pace, PumpTiming
from claude_loop.transports.publishing import EventAcceptor, Publisher
from claude_loop.transports.socketio_client import Client
from claude_loop.transports.socketio_events import ClientEvents, Handler, opened_answer
from claude_loop.transports.socketio_server import Reply, SocketServer

PATH = "socket.io"
# Time to take the word that the token is void; what a client sends meanwhile is not heard.
DISMISSAL_SECONDS = 1.0


class TokenAuthenticator(Protocol):
    def from_socketio_auth(self, auth: object, request_principal: Principal) -> Principal | None:
        """The caller behind a connect; None to refuse."""


class SocketIOTransport:
    """Serves Socket.IO clients of one hub.

    ``clients`` are the sids of those connected, ``subscriptions`` maps each PRD of `subscribe_prd` to the sids that
    hold it. ``state`` is the live state for `watch`, a feed of the transport's own unless given. ``handlers`` are
    called for the clients' events of those names; without one a name is refused. ``on_rejected`` hears of each refused
    publish with what was sent. ``ping`` is (interval, timeout), in seconds; after ``write_timeout`` seconds a client
    that does not read is cut off. ``pace`` is the beat of the pumps; transports that share one also share the work of
    reading the log.
    """

    def __init__(
        self,
        hub: Hub,
        acceptor: EventAcceptor,
        authenticator: TokenAuthenticator,
        settings: Settings,
        clock: Clock,
        version: str,
        *,
        state: StateFeed | None = None,
        handlers: dict[str, Handler] | None = None,
        on_rejected: Callable[[ClaudeLoopError, object], None] = lambda _error, _raw: None,
        timing: PumpTiming | None = None,
        pace: Pace | None = None,
        ping: tuple[float, float] = (25.0, 20.0),
        write_timeout: float = 10.0,
    ) -> None:
        self.clients: set[str] = set()
        self.subscriptions: dict[str, set[str]] = {}
        self.handlers: dict[str, Handler] = {} if handlers is None else handlers
        self.refused: Counter[str] = Counter()
        self._hub = hub
        self._authenticator = authenticator
        self._settings = settings
        self._clock = clock
        self._version = version
        timing = timing or PumpTiming()
        self._tasks = TaskOwner("socketio")
        self._fan_out = FanOut(hub, pace or Pace(timing, clock), self._tasks, timing.quiet)
        self._by_sid: dict[str, Client] = {}
        self._opening: dict[str, tuple[Client, read.Subscribe | None, Opened | None]] = {}
        self._publisher = Publisher(hub, acceptor, on_rejected)
        self._state = StateFeed(hub.log, clock, round(settings.stalled_after * 1000)) if state is None else state
        self._events = ClientEvents(
            hub,
            self._state,
            self._publisher,
            self.handlers,
            self.subscriptions,
            tasks=self._tasks,
            on_refused=self.malformed,
        )
        self._server = self._make_server(ping, write_timeout)

    def _make_server(self, ping: tuple[float, float], write_timeout: float) -> SocketServer:
        limits = self._settings.limits
        quiet_log = logging.getLogger("claude_loop.engineio")
        quiet_log.setLevel(logging.ERROR)  # below that it repeats what clients send
        return SocketServer(
            self,
            logger=quiet_log,
            engineio_logger=quiet_log,
            # The gate has checked the request's origin, and it alone knows the settings; engineio's own check would
            # refuse what the gate allows. An empty list turns it off, and its CORS headers with it.
            cors_allowed_origins=[],
            http_compression=False,
            max_http_buffer_size=limits.body_bytes,
            ping_interval=ping[0],
            ping_timeout=ping[1],
            write_timeout=write_timeout,
            join_seconds=limits.handshake_seconds,
            max_sessions=limits.connections,
        )

    def attach(self, app: web.Application) -> None:
        """Add the routes. No others than these two methods: HEAD would open sessions, OPTIONS is the gate's."""
        engine = self._server.eio
        app.router.add_get(f"/{PATH}/", engine.handle_request, allow_head=False)
        app.router.add_post(f"/{PATH}/", engine.handle_request)

    def handshake_principal(self, eio_sid: str) -> Principal | None:
        """Who opened an Engine.IO session; None when there is no such session."""
        socket = self._server.eio.find(eio_sid)
        return None if socket is None else socket.principal

    # --- what the server tells of its clients: the `Receiver`

    async def admit(self, sid: str, socket: LoopSocket, auth: dict[str, Any]) -> None:
        principal = self._authenticator.from_socketio_auth(auth, socket.principal)
        if principal is None:
            raise Unauthorized(
                "This connection needs a token.",
                hint='Connect with `auth: {"token": ...}`; the token is in the file `token` of the state directory.',
            )
        client = Client(
            sid,
            socket,
            principal,
            hub=self._hub,
            tasks=self._tasks,
            fan_out=self._fan_out,
            limits=self._settings.limits,
            clock=self._clock,
        )
        wanted = read.subscribe(auth["subscribe"]) if auth.get("subscribe") is not None else None
        opened = None
        if wanted is not None:
            client.require("read")
            opened = await self._hub.subscribe(wanted.filter, wanted.start)
        self._opening[sid] = (client, wanted, opened)

    def joined(self, sid: str) -> None:
        client, wanted, opened = self._opening.pop(sid)
        self.clients.add(sid)
        self._by_sid[sid] = client
        greeting = self._greeting(sid)
        if wanted is None or opened is None:
            client.send("connected", greeting)
            client.watch_everything()
            return
        client.send("connected", {**greeting, "subscription": opened_answer(opened)})
        if opened.reason is not None:
            reset = Reset(opened.reason, opened.subscription.cursor)
            client.socket.push([reset_frame(reset, opened.subscription.filter.key)])
        client.follow(opened, wanted.max_batch)

    def _greeting(self, sid: str) -> dict[str, Any]:
        state = self._hub.state
        return {
            "sid": sid,
            "epoch": state.epoch,
            "first": state.first,
            "head": state.head,
            "cursor": str(state.head_cursor),
            "retention": self._settings.retention.model_dump(),
            "version": self._version,
        }

    def left(self, sid: str) -> None:
        self._opening.pop(sid, None)
        self.clients.discard(sid)
        client = self._by_sid.pop(sid, None)
        if client is not None:
            client.leave()
            for prd_id in client.prds.prd_ids:
                self._events.forget_holder(prd_id, sid)

    async def received(self, sid: str, name: str, payload: Any, reply: Reply) -> None:
        client = self._by_sid.get(sid)
        if client is not None:
            await self._events.handle(client, name, payload, reply)

    def malformed(self, error: ClaudeLoopError) -> None:
        self.refused[error.code] += 1

    def cut_off(self, is_void: Callable[[Principal], bool]) -> None:
        """End the connections of callers who are nobody any more; each is told, as far as it still listens."""
        for client in list(self._by_sid.values()):
            if is_void(client.principal):
                self.left(client.sid)  # from here on it is fed nothing, and what it sends is not heard
                client.send("error", Unauthorized("The token of this connection was revoked, or is over.").as_dict())
                self._tasks.spawn(self._dismiss(client.socket), f"dismissal of {client.sid}")
        for socket in self._server.eio.open_sessions():
            if not socket.joined and is_void(socket.principal):
                socket.cut_off("its token was revoked")

    async def _dismiss(self, socket: LoopSocket) -> None:
        socket.finish()
        await self._server.eio.wait_for_end([socket], DISMISSAL_SECONDS)

    # --- what the server says

    def send_to_client(self, sid: str, name: str, payload: Any) -> bool:
        """Send one event to one client; False when it is not connected. Raises ``TypeError`` for what is not JSON."""
        client = self._by_sid.get(sid)
        if client is not None:
            client.send(name, payload)
        return client is not None

    async def close(self, reconnect_after: float = 1.0, seconds: float = 2.0) -> None:
        """Say `bye`, let the clients go, and cut off after ``seconds`` those that do not take it."""
        engine = self._server.eio
        engine.closing = True
        for client in self._by_sid.values():
            client.leave()
            client.send("bye", {"reconnect_after": reconnect_after})
        sockets = engine.open_sessions()
        for socket in sockets:
            socket.finish()
        await engine.wait_for_end(sockets, seconds)
        await self._tasks.close()
        await engine.tasks.close()

    def fanout_p99(self) -> float | None:
        """How long events took from the log's door to the clients' connections, in milliseconds, since last asked."""
        return self._fan_out.pace.take_p99()

    def statistics(self) -> dict[str, Any]:
        """For ``/status``; ``readers`` has an entry for each client."""
        clients = self._by_sid.values()
        return {
            "clients": len(self.clients),
            "subscriptions": sum(client.subscriptions for client in clients),
            "published": self._publisher.published,
            "refused": dict(self.refused),
            "cut_off": self._server.eio.cut_off,
            "readers": [client.statistics() for client in clients],
        }
