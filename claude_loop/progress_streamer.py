"""Emit progress from Python.

    streamer = start_streaming(ws_port=18790)
    await streamer.story_started("PRD-001", "US-001")
    await streamer.test_run("PRD-001", "US-001", passed=10, failed=2)

Every event goes on the streamer's event bus. With a server it is published there; without one it goes to the spool,
from where the daemon takes it, now or when it is next up. Emitting never fails the caller.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from claude_loop.context import silenced
from claude_loop.errors import HomeError, LoadError, StartError
from claude_loop.event_bus import Event, EventBus, EventPriority
from claude_loop.instance import is_running
from claude_loop.paths import Home
from claude_loop.spool_writer import SpoolWriter
from claude_loop.supervision import TaskOwner


class PublishingServer(Protocol):
    """The part of ``ClaudeLoopWebSocketServer`` that a streamer uses."""

    async def broadcast(self, event_type: str, data: Mapping[str, Any]) -> Any: ...

    async def send_to_prd_subscribers(self, prd_id: str, event_type: str, data: Mapping[str, Any]) -> Any: ...


class ProgressStreamer:
    """Passes events on. ``enabled`` is false with ``CLAUDE_LOOP_DISABLE=1``: then every call does nothing.

    >>> import asyncio
    >>> streamer = ProgressStreamer()
    >>> streamer.enabled = False
    >>> asyncio.run(streamer.story_started("PRD-001", "US-001"))
    """

    def __init__(
        self,
        ws_server: PublishingServer | None = None,
        event_bus: EventBus | None = None,
        *,
        ready: Awaitable[None] | None = None,
    ) -> None:
        self.ws_server = ws_server
        self.event_bus = event_bus or EventBus()
        self.enabled = not silenced()
        self._ready = ready
        self._spool = SpoolWriter()
        self._spooled = threading.local()
        self.lost = 0  # events that could not even be spooled
        self.event_bus.subscribe("*", self._pass_on, priority=EventPriority.BACKGROUND.value, name="progress streamer")

    def _pass_on(self, event: Event) -> Awaitable[None] | None:
        # What has a seq came from the hub, and what was emitted by `emit_sync` is in the spool already.
        if event.seq or getattr(self._spooled, "now", False):
            return None
        if self.ws_server is None:
            self._to_spool(event.type, event.prd_id, event.story_id, event.data)
            return None
        return self._publish(self.ws_server, event)

    async def _publish(self, server: PublishingServer, event: Event) -> None:
        try:
            if self._ready is not None:
                await self._ready
            if event.prd_id:
                await server.send_to_prd_subscribers(event.prd_id, event.type, event.data)
            else:
                await server.broadcast(event.type, event.data)
        except (LoadError, HomeError, StartError):
            # The server could not start or store: the spool keeps the event until one can.
            self._to_spool(event.type, event.prd_id, event.story_id, event.data)

    def _to_spool(self, type_: str, prd_id: str | None, story_id: str | None, data: Mapping[str, Any]) -> None:
        try:
            self._spool.emit(type_, data, prd_id=prd_id, story_id=story_id)
        except (OSError, TypeError, ValueError):
            # A full disk, or a value that is no JSON: progress is lost rather than the work it tells of.
            self.lost += 1

    async def _emit(self, type_: str, prd_id: str, story_id: str | None, data: dict[str, Any]) -> None:
        if self.enabled:
            await self.event_bus.emit(type_, data, prd_id=prd_id, story_id=story_id)

    async def story_started(self, prd_id: str, story_id: str, **extra: Any) -> None:
        await self._emit("story.started", prd_id, story_id, {"story_id": story_id, "status": "in_progress", **extra})

    async def story_completed(self, prd_id: str, story_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
        data = {"story_id": story_id, "success": success, "status": _outcome(success=success), **extra}
        await self._emit("story.completed", prd_id, story_id, data)

    async def test_run(self, prd_id: str, story_id: str, passed: int, failed: int, **extra: Any) -> None:
        data = {"story_id": story_id, "passed": passed, "failed": failed, **extra}
        data.setdefault("total", passed + failed + (extra.get("skipped") or 0))
        await self._emit("test.run", prd_id, story_id, data)

    async def commit_created(self, prd_id: str, story_id: str, commit_hash: str, **extra: Any) -> None:
        data = {"story_id": story_id, "commit_hash": commit_hash, **extra}
        await self._emit("commit.created", prd_id, story_id, data)

    async def error_occurred(self, prd_id: str, story_id: str | None, error: str, **extra: Any) -> None:
        await self._emit("error.occurred", prd_id, story_id, {"story_id": story_id, "error": error, **extra})

    async def prd_started(self, prd_id: str, **extra: Any) -> None:
        await self._emit("prd.started", prd_id, None, {"status": "running", **extra})

    async def prd_completed(self, prd_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
        data = {"success": success, "status": _outcome(success=success), **extra}
        await self._emit("prd.completed", prd_id, None, data)

    async def log_message(self, prd_id: str, story_id: str | None, level: str, message: str) -> None:
        await self._emit("log.message", prd_id, story_id, {"level": level, "message": message})

    def emit_sync(self, event_type: str, prd_id: str, data: Mapping[str, Any], story_id: str | None = None) -> None:
        """Emit from code that cannot await: into the spool, and on the bus for the handlers of this process."""
        if not self.enabled:
            return
        self._to_spool(event_type, prd_id, story_id, data)
        self._spooled.now = True
        try:
            self.event_bus.emit_sync(event_type, dict(data), prd_id=prd_id, story_id=story_id)
        finally:
            self._spooled.now = False


def _outcome(*, success: bool) -> str:
    return "completed" if success else "failed"


class _Streaming:
    """The streamer of this process and, if it embeds a server, the task that started it."""

    def __init__(self) -> None:
        self.streamer: ProgressStreamer | None = None
        self.tasks = TaskOwner("progress streamer")


_process = _Streaming()


def get_progress_streamer() -> ProgressStreamer:
    """The streamer of this process; a plain emitter unless ``start_streaming`` made another."""
    if _process.streamer is None:
        _process.streamer = ProgressStreamer()
    return _process.streamer


def start_streaming(ws_port: int = 18790) -> ProgressStreamer:
    """Make this process stream its progress.

    Embeds a server on ``ws_port`` when an event loop runs and no daemon has this home yet; otherwise it is a plain
    emitter, whose events the daemon takes from the spool.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _process.streamer = ProgressStreamer()
        return _process.streamer
    if is_running(Home.from_environment()):
        _process.streamer = ProgressStreamer()
        return _process.streamer
    from claude_loop.websocket_server import ClaudeLoopWebSocketServer  # noqa: PLC0415 - heavy, for an emitter

    server = ClaudeLoopWebSocketServer(port=ws_port)
    ready = _process.tasks.spawn(server.start(), "server start")
    _process.streamer = ProgressStreamer(server, ready=ready)
    return _process.streamer


def emit_story_started(prd_id: str, story_id: str, **extra: Any) -> None:
    data = {"story_id": story_id, "status": "in_progress", **extra}
    get_progress_streamer().emit_sync("story.started", prd_id, data, story_id)


def emit_story_completed(prd_id: str, story_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
    data = {"story_id": story_id, "success": success, **extra}
    get_progress_streamer().emit_sync("story.completed", prd_id, data, story_id)


def emit_test_run(prd_id: str, story_id: str, passed: int, failed: int, **extra: Any) -> None:
    data = {"story_id": story_id, "passed": passed, "failed": failed, **extra}
    get_progress_streamer().emit_sync("test.run", prd_id, data, story_id)


def emit_commit_created(prd_id: str, story_id: str, commit_hash: str, **extra: Any) -> None:
    data = {"story_id": story_id, "commit_hash": commit_hash, **extra}
    get_progress_streamer().emit_sync("commit.created", prd_id, data, story_id)


def emit_error(prd_id: str, story_id: str, error: str, **extra: Any) -> None:
    data = {"story_id": story_id, "error": error, **extra}
    get_progress_streamer().emit_sync("error.occurred", prd_id, data, story_id)


def emit_prd_started(prd_id: str, **extra: Any) -> None:
    get_progress_streamer().emit_sync("prd.started", prd_id, {"status": "running", **extra})


def emit_prd_completed(prd_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
    get_progress_streamer().emit_sync("prd.completed", prd_id, {"success": success, **extra})
