"""What a server serves: the transports over one hub, behind one gate."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from claude_loop import background
from claude_loop.build import full_version
from claude_loop.clock import Clock
from claude_loop.hub import Hub
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.spool import SpoolIntake
from claude_loop.observability.clients import Clients
from claude_loop.observability.health import Health
from claude_loop.observability.metrics import Metrics
from claude_loop.observability.published import Published
from claude_loop.observability.series import Series
from claude_loop.observability.status import Identity, Status
from claude_loop.paths import Home
from claude_loop.progress.keeping import Keeping
from claude_loop.search.service import Search
from claude_loop.settings import Settings
from claude_loop.supervision import TaskOwner
from claude_loop.transports.auth import Authenticator, how_to_authenticate, needs_token
from claude_loop.transports.gate import ENGINE_IO, Gate
from claude_loop.transports.http import HttpTransport
from claude_loop.transports.listeners import Listeners
from claude_loop.transports.named_tokens import NamedTokens
from claude_loop.transports.sessions import SessionRoutes, Sessions
from claude_loop.transports.socketio import SocketIOTransport
from claude_loop.transports.sse import SseTransport
from claude_loop.transports.token_file import ensure_token
from claude_loop.web.pages import WebPages

log = structlog.get_logger(__name__)

# At a stop clients have FAREWELL_SECONDS to hear of it, then answers under way have ANSWER_SECONDS. Everything together
# stays below the five seconds after which people lose patience and send SIGKILL.
FAREWELL_SECONDS = 1.0
ANSWER_SECONDS = 2.0
_SOCKETIO_ACCESS = {"GET /socket.io/": ENGINE_IO, "POST /socket.io/": ENGINE_IO}


@dataclass(frozen=True, slots=True)
class Ground:
    """What the transports stand on; all of it runs already."""

    home: Home
    settings: Settings
    clock: Clock
    hub: Hub
    acceptor: Acceptor
    health: Health
    tasks: TaskOwner
    spool: SpoolIntake
    search: Search | None


class Serving:
    """The transports of one start of a server. ``url`` is where they will be reached, ``handlers`` answer the clients'
    own Socket.IO events."""

    def __init__(self, ground: Ground, url: str, handlers: dict[str, Callable[[str, Any], Any]]) -> None:
        self._ground = ground
        self._url = url
        self._sessions = Sessions(ground.clock)
        self._named = NamedTokens(ground.home.tokens, ground.clock)
        self._authenticator = self._make_authenticator()
        self._published = published = Published(ground.clock)
        self._metrics = Metrics()
        self.socketio = SocketIOTransport(
            ground.hub,
            ground.acceptor,
            self._authenticator,
            ground.settings,
            ground.clock,
            full_version(),
            handlers=handlers,
            on_rejected=lambda error, _raw: published.refused("socketio", error),
        )
        self._sse = SseTransport(ground.hub)

    async def start(self, stack: AsyncExitStack, listeners: Listeners) -> None:
        """Serve on ``listeners``. Each part puts its end on ``stack``: they end in the opposite order."""
        self._ground.tasks.spawn(self._named.watch((self.socketio, self._sse)), "named tokens")
        http = self._http(stack)
        runner = web.AppRunner(self._application(http), access_log=None, shutdown_timeout=ANSWER_SECONDS)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(self._sse.close)
        stack.push_async_callback(self.socketio.close, seconds=FAREWELL_SECONDS)
        stack.callback(http.close)
        assert runner.server is not None  # noqa: S101 - set by `setup`
        await listeners.serve(runner.server)
        stack.callback(listeners.close)  # the first of all to end: what comes from now on comes to somebody else

    def _make_authenticator(self) -> Authenticator:
        home, settings, clock = self._ground.home, self._ground.settings, self._ground.clock
        return Authenticator(
            ensure_token(home.token, clock),
            session_of=self._sessions.principal_of,
            named_of=self._named.principal_of,
            is_void=self._named.is_void,
            loopback=settings.auth.loopback,
            behind_proxy=settings.insecure_behind_proxy,
        )

    def _http(self, stack: AsyncExitStack) -> HttpTransport:
        """With what it tells about the server itself, which goes on in tasks."""
        ground = self._ground
        clients = Clients({"socketio": self.socketio, "sse": self._sse})
        status = self._status(stack, clients)
        series = Series(
            ground.hub,
            clients,
            self._published,
            ground.clock,
            fanout_p99=self.socketio.fanout_p99,
            spool=ground.spool,
        )
        ground.tasks.spawn(series.run(), "series")
        keeping = Keeping(ground.hub, ground.clock, ground.tasks)
        ground.tasks.spawn(keeping.finish(), "forgetting")
        return HttpTransport(
            ground.hub,
            ground.acceptor,
            self._sse,
            ground.settings,
            ground.clock,
            status=status,
            clients=clients,
            metrics=self._metrics,
            published=self._published,
            series=series,
            keeping=keeping,
            search=ground.search,
        )

    def _status(self, stack: AsyncExitStack, clients: Clients) -> Status:
        home, settings, clock, hub = self._ground.home, self._ground.settings, self._ground.clock, self._ground.hub
        health, url = self._ground.health, self._url
        return Status(
            Identity(full_version(), os.getpid(), url, str(home.root), clock.now_us() // 1000),
            hub,
            health,
            clients,
            self._published,
            clock=clock,
            retention=settings.retention,
            spool=self._ground.spool,
            notify=background.start_delivery(stack, hub, home, settings, clock, health, lambda: url),
        )

    def _application(self, http: HttpTransport) -> web.Application:
        """All there is to ask for, and before it the gate, which knows what each needs."""
        settings = self._ground.settings
        app, pages = web.Application(client_max_size=settings.limits.body_bytes), WebPages()
        for part in (http, self.socketio, pages):
            part.attach(app)
        SessionRoutes(self._sessions).add_to(app)
        Gate(
            self._authenticator,
            settings,
            {**http.access(), **_SOCKETIO_ACCESS, **SessionRoutes.ACCESS, **pages.access()},
            handshake_principal=self.socketio.handshake_principal,
            on_refusal=self._metrics.refused,
            token_hint=self._token_hint(),
        ).install(app)
        return app

    def _token_hint(self) -> str | None:
        """The line for callers on this machine who need the token; None where they need none."""
        settings = self._ground.settings
        if not self._url or not needs_token(settings.auth.loopback, behind_proxy=settings.insecure_behind_proxy):
            return None
        line = how_to_authenticate(f"{self._url}/api/prds", self._ground.home.token)
        log.info("callers on this machine need the token", example=line)
        return line
