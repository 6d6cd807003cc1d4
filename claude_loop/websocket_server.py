"""The embeddable server, and the only place that builds the object graph.

    server = ClaudeLoopWebSocketServer(port=18790)
    await server.start()
    await server.broadcast("story.started", {"prd_id": "PRD-001", "story_id": "US-001"})
    await server.stop()
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from aiohttp import web

from claude_loop import __version__
from claude_loop.clock import Clock, SystemClock, rfc3339
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.base import EventLog
from claude_loop.eventlog.retention import Retention
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import ID_KEYS
from claude_loop.hub import Hub
from claude_loop.instance import DaemonNote, InstanceLock
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.spool import SpoolIntake
from claude_loop.paths import Home
from claude_loop.progress.owners import OwnerWatch
from claude_loop.progress.projection import ProgressProjection
from claude_loop.settings import Settings, load_settings
from claude_loop.supervision import TaskOwner
from claude_loop.transports.auth import Authenticator
from claude_loop.transports.gate import Gate
from claude_loop.transports.listeners import Listeners
from claude_loop.transports.sessions import Sessions
from claude_loop.transports.socketio import SocketIOTransport
from claude_loop.transports.token_file import ensure_token

log = structlog.get_logger(__name__)

# An answer under way at a stop gets this long; a stream has been told before.
CLEANUP_SECONDS = 2.0
_STORED_BY_BROADCAST = frozenset(ID_KEYS)


class ClaudeLoopWebSocketServer:
    """A whole daemon inside this process. One home has one server at a time.

    ``clients`` are the sids of connected Socket.IO clients; ``subscriptions`` maps each PRD id to the sids that
    subscribed to it.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 18790,
        *,
        home: Home | None = None,
        settings: Settings | None = None,
        inherited: Sequence[socket.socket] = (),
        clock: Clock | None = None,
        bus: EventBus | None = None,
    ) -> None:
        settings = settings or load_settings()
        self.settings = settings.model_copy(update={"host": host, "port": port})
        self.home = home or Home.from_environment()
        self.host = host
        self.port = port
        self.url = ""
        self._clock = clock or SystemClock()
        self._inherited = inherited
        self.event_bus = bus or EventBus(clock=self._clock)
        self._handlers: dict[str, Callable[[str, Any], Any]] = {}
        self._lock = InstanceLock(self.home)
        self._tasks = TaskOwner("server")
        self._closers: list[tuple[str, Callable[[], Any]]] = []
        self._socketio: SocketIOTransport | None = None
        self._acceptor = Acceptor(self.settings.limits, self.settings.redact, self._clock)
        self.hub: Hub | None = None

    @classmethod
    def from_settings(cls, settings: Settings, **options: Any) -> ClaudeLoopWebSocketServer:
        """A server where the settings say. ``options`` are the keywords of the constructor."""
        return cls(settings.host, settings.port, settings=settings, **options)

    @property
    def clients(self) -> set[str]:
        return self._socketio.clients if self._socketio else set()

    @property
    def subscriptions(self) -> dict[str, set[str]]:
        return self._socketio.subscriptions if self._socketio else {}

    # -- start and stop ------------------------------------------------------------------------------------------
