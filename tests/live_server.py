"""The real server in this process, on a state directory of its own, which can be stopped and started again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from claude_loop import serving, websocket_server
from claude_loop.clock import SystemClock
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.paths import Home
from claude_loop.settings import load_settings
from claude_loop.transports.pace import PumpTiming
from claude_loop.transports.socketio import SocketIOTransport
from claude_loop.transports.sse import SseTiming, SseTransport

CLOCK = SystemClock()


class LiveServer:
    """Keeps its port over restarts. ``publish`` puts events into the log beside all transports."""

    def __init__(self, home: Path, **flags: Any) -> None:
        self._home = Home(home)
        self._flags = flags
        self._server: websocket_server.ClaudeLoopWebSocketServer | None = None
        self.port = 0

    @property
    def server(self) -> websocket_server.ClaudeLoopWebSocketServer:
        assert self._server is not None, "the server is stopped"
        return self._server

    @property
    def hub(self) -> Hub:
        return self.server.hub

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def head(self) -> str:
        return str(self.hub.state.head_cursor)

    async def start(self) -> None:
        settings = load_settings(port=self.port, **self._flags)
        server = websocket_server.ClaudeLoopWebSocketServer.from_settings(settings, home=self._home)
        await server.start()
        self._server, self.port = server, server.port

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def publish(
        self, count: int = 1, type_: str = "note.made", data: dict[str, Any] | None = None, **ids: Any
    ) -> list[Event]:
        """``count`` events, one commit each."""
        events = []
        for _ in range(count):
            event = Event(type_, dict(data or {}), id=new_event_id(CLOCK), at=CLOCK.now_us() // 1000, **ids)
            await self.hub.publish([event])
            events.append(event)
        return events

    async def get(self, path: str, **query: Any) -> Any:
        async with aiohttp.ClientSession(self.url) as session, session.get(path, params=query) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


def hurry(monkeypatch: pytest.MonkeyPatch, *, write_timeout: float, quiet: float) -> None:
    """Servers started from now on lose patience sooner: ``write_timeout`` and ``quiet`` in seconds."""
    sse = partial(SseTransport, timing=SseTiming(ping=quiet, write_timeout=write_timeout))
    timing = PumpTiming(quiet=quiet)
    socketio = partial(SocketIOTransport, timing=timing, write_timeout=write_timeout)
    monkeypatch.setattr(serving, "SseTransport", sse)
    monkeypatch.setattr(serving, "SocketIOTransport", socketio)
