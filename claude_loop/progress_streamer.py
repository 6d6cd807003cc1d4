"""Emit progress from Python.

    streamer = start_streaming(ws_port=18790)
    await streamer.story_started("PRD-001", "US-001")
    await streamer.test_run("PRD-001", "US-001", passed=10, failed=2)

Every event goes on the streamer's event bus. With a server it is published there; without one it goes to the spool,
from where the daemon takes it, now or when it is next up. Emitting never fails the caller.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from claude_loop import payloads
from claude_loop.context import silenced
from claude_loop.errors import AlreadyRunning, ClaudeLoopError
from claude_loop.event_bus import Event, EventBus
from claude_loop.events import ID_KEYS
from claude_loop.instance import is_running
from claude_loop.paths import Home
from claude_loop.spool_writer import SpoolWriter
from claude_loop.supervision import TaskOwner

# Not structlog, which prints to stdout unless it is configured: this runs in other people's programs.
log = logging.getLogger(__name__)

# Before all other handlers: one that hangs must not keep an event from the log.
FIRST = 1_000_000
# What was spooled before has this long, in seconds, to be taken by the daemon before something may pass it by.
CATCH_UP_SECONDS = 0.25


class PublishingServer(Protocol):
    """The part of ``ClaudeLoopWebSocketServer`` that a streamer uses."""

    async def broadcast(self, event_type: str, data: Mapping[str, Any]) -> Any: ...

    async def send_to_prd_subscribers(self, prd_id: str, event_type: str, data: Mapping[str, Any]) -> Any: ...


class ProgressStreamer:
    """Passes events on. ``enabled`` is false with ``CLAUDE_LOOP_DISABLE=1``: then every call does nothing.

    With ``ready``, the server's events wait for it; if it fails, they go to the spool. ``lost`` counts events that
    could not even be spooled.

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
        ready: asyncio.Future[None] | None = None,
    ) -> None:
        self.ws_server = ws_server
        self.event_bus = event_bus or EventBus()
        self.enabled = not silenced()
        self.lost = 0
        self._ready = ready
        self._home = Home.from_environment()
        self._spool = SpoolWriter(self._home)
        self._behind = False  # whether the spool may hold events of ours that the server does not have yet
        self._in_this_thread = threading.local()
        self.event_bus.subscribe("*", self._pass_on, priority=FIRST, name="progress streamer")

    async def story_started(self, prd_id: str, story_id: str, **extra: Any) -> None:
        await self._emit("story.started", prd_id, story_id, payloads.story_started(story_id, extra))

    async def story_completed(self, prd_id: str, story_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
        await self._emit("story.completed", prd_id, story_id, payloads.story_completed(story_id, success, extra))

    async def test_run(self, prd_id: str, story_id: str, passed: int, failed: int, **extra: Any) -> None:
        await self._emit("test.run", prd_id, story_id, payloads.test_run(story_id, passed, failed, extra))

    async def commit_created(self, prd_id: str, story_id: str, commit_hash: str, **extra: Any) -> None:
        await self._emit("commit.created", prd_id, story_id, payloads.commit_created(story_id, commit_hash, extra))

    async def error_occurred(self, prd_id: str, story_id: str | None, error: object, **extra: Any) -> None:
        await self._emit("error.occurred", prd_id, story_id, payloads.error_occurred(story_id, error, extra))

    async def prd_started(self, prd_id: str, **extra: Any) -> None:
        await self._emit("prd.started", prd_id, None, payloads.prd_started(extra))

    async def prd_completed(self, prd_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
        await self._emit("prd.completed", prd_id, None, payloads.prd_completed(success, extra))

    async def log_message(self, prd_id: str, story_id: str | None, level: str, message: str) -> None:
        await self._emit("log.message", prd_id, story_id, {"level": level, "message": message})

    def emit_sync(self, event_type: str, prd_id: str, data: Mapping[str, Any], story_id: str | None = None) -> None:
        """Emit from code that cannot await: into the spool, and on the bus for the handlers of this process."""
        if self.enabled:
            with self._spooling():
                self.event_bus.emit_sync(event_type, payloads.mapping(data), prd_id=prd_id, story_id=story_id)

    async def _emit(self, type_: str, prd_id: str, story_id: str | None, data: dict[str, Any]) -> None:
        if not self.enabled:
            return
        if self.ws_server is not None and getattr(self.ws_server, "event_bus", None) is self.event_bus:
            # The server's own bus hears of the event once the log has it, and should not hear of it twice.
            await self._publish(self.ws_server, Event(type_, data, prd_id=prd_id, story_id=story_id))
        else:
            await self.event_bus.emit(type_, data, prd_id=prd_id, story_id=story_id)

    def _pass_on(self, event: Event) -> Awaitable[None] | None:
        """The bus's handler. What has a ``seq`` came from the hub, and is never published again."""
        if event.seq or not self.enabled:
            return None
        if self.ws_server is None or getattr(self._in_this_thread, "spools", False):
            self._to_spool(event)
            return None
        return self._publish(self.ws_server, event)

    @contextmanager
    def _spooling(self) -> Iterator[None]:
        """Whatever is emitted in this thread meanwhile, by handlers too, goes to the spool: nobody can await it."""
        before = getattr(self._in_this_thread, "spools", False)
        self._in_this_thread.spools = True
        try:
            yield
        finally:
            self._in_this_thread.spools = before

    async def _publish(self, server: PublishingServer, event: Event) -> None:
        """Whatever goes wrong, the spool keeps the event until a server can take it."""
        try:
            takes_events = await self._server_takes_events()
        except asyncio.CancelledError:
            self._to_spool(event)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return  # it was the server's start that was cancelled
        if not takes_events:
            self._to_spool(event)
            return
        data = {**_ids_beside(event), **event.data}
        try:
            if event.prd_id:
                await server.send_to_prd_subscribers(event.prd_id, event.type, data)
            else:
                await server.broadcast(event.type, data)
        except Exception as failure:  # noqa: BLE001 - a server may fail in any way, and the caller is none of it
            log.debug("the server did not take an event, the spool does: %s", failure)
            self._to_spool(event)

    async def _server_takes_events(self) -> bool:
        """Whether the server runs and has all that was spooled before: an event must not overtake another."""
        if self._ready is not None:
            try:
                await asyncio.shield(self._ready)
            except Exception:  # noqa: BLE001 - reported where the start failed
                return False
        if self._behind:
            self._behind = await asyncio.to_thread(self._lags_behind)
        return not self._behind

    def _lags_behind(self) -> bool:
        try:
            # Where no daemon drains the spool, there is nothing to wait for.
            return is_running(self._home) and not self._spool.flush(CATCH_UP_SECONDS)
        except OSError:
            return True

    def _to_spool(self, event: Event) -> None:
        ids = {key: getattr(event, key) for key in ID_KEYS}
        try:
            try:
                self._spool.emit(event.type, event.data, **ids)
            except (TypeError, ValueError, RecursionError):
                self._spool.emit(event.type, payloads.plain(event.data), **ids)
            self._behind = True
        except Exception as failure:  # noqa: BLE001 - a full disk: progress is lost rather than the work it tells of
            self.lost += 1
            log.debug("an event was lost: %s", failure)


def _ids_beside(event: Event) -> dict[str, str]:
    """The ids of an event that its data does not repeat; the PRD is an argument of its own."""
    ids = {key: getattr(event, key) for key in ID_KEYS if key != "prd_id"}
    return {key: value for key, value in ids.items() if value is not None}


class _Streaming:
    """The streamer of this process and, if it embeds a server, the task that is the server's life."""

    def __init__(self) -> None:
        self.streamer: ProgressStreamer | None = None
        self.making = threading.Lock()
        self.tasks = TaskOwner("progress streamer")
        self.serving: asyncio.Task[None] | None = None

    def serves(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self.serving is not None and not self.serving.done() and self.serving.get_loop() is loop


_process = _Streaming()


def get_progress_streamer() -> ProgressStreamer:
    """The streamer of this process; a plain emitter unless ``start_streaming`` made another."""
    with _process.making:  # two would write to two files of the spool, out of step
        if _process.streamer is None:
            _process.streamer = ProgressStreamer()
        return _process.streamer


def start_streaming(ws_port: int = 18790) -> ProgressStreamer:
    """Make this process stream its progress; the streamer is also what ``get_progress_streamer`` gives from now on.

    Embeds a server on ``ws_port`` when an event loop runs and no daemon has this home yet; it stops when the loop
    ends. Otherwise the streamer is a plain emitter, whose events the daemon takes from the spool.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _process.streamer = ProgressStreamer()
        return _process.streamer
    if _process.streamer is None or not _process.serves(loop):
        _process.streamer = _embedding(loop, ws_port) or ProgressStreamer()
    return _process.streamer


def _embedding(loop: asyncio.AbstractEventLoop, port: int) -> ProgressStreamer | None:
    """A streamer with a server of its own; None where a daemon runs, or no server can be made."""
    try:
        if silenced() or is_running(Home.from_environment()):
            return None
        from claude_loop.websocket_server import ClaudeLoopWebSocketServer  # noqa: PLC0415 - heavy, for an emitter

        server = ClaudeLoopWebSocketServer(port=port)
    except (ClaudeLoopError, OSError) as failure:
        log.warning("no server is embedded, events wait in the spool: %s", failure)
        return None
    ready: asyncio.Future[None] = loop.create_future()
    _process.serving = _process.tasks.spawn(_serve(server, ready), "server")
    return ProgressStreamer(server, ready=ready)


async def _serve(server: Any, ready: asyncio.Future[None]) -> None:
    """Runs as long as the event loop, whose end cancels every task."""
    try:
        await server.start()
    except Exception as failure:  # noqa: BLE001 - whatever keeps it from starting, the caller goes on
        if not isinstance(failure, AlreadyRunning):  # another was quicker, and takes what is in the spool
            log.warning("the embedded server did not start, events wait in the spool: %s", failure)
        ready.set_exception(failure)
        ready.exception()  # perhaps nobody asks
        return
    except asyncio.CancelledError:
        ready.cancel()
        raise
    try:
        ready.set_result(None)
        await asyncio.Event().wait()
    finally:
        await server.stop()


def _emit_sync(event_type: str, prd_id: str, story_id: str | None, data: dict[str, Any]) -> None:
    get_progress_streamer().emit_sync(event_type, prd_id, data, story_id)


def emit_story_started(prd_id: str, story_id: str, **extra: Any) -> None:
    _emit_sync("story.started", prd_id, story_id, payloads.story_started(story_id, extra))


def emit_story_completed(prd_id: str, story_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
    _emit_sync("story.completed", prd_id, story_id, payloads.story_completed(story_id, success, extra))


def emit_test_run(prd_id: str, story_id: str, passed: int, failed: int, **extra: Any) -> None:
    _emit_sync("test.run", prd_id, story_id, payloads.test_run(story_id, passed, failed, extra))


def emit_commit_created(prd_id: str, story_id: str, commit_hash: str, **extra: Any) -> None:
    _emit_sync("commit.created", prd_id, story_id, payloads.commit_created(story_id, commit_hash, extra))


def emit_error(prd_id: str, story_id: str | None, error: object, **extra: Any) -> None:
    _emit_sync("error.occurred", prd_id, story_id, payloads.error_occurred(story_id, error, extra))


def emit_prd_started(prd_id: str, **extra: Any) -> None:
    _emit_sync("prd.started", prd_id, None, payloads.prd_started(extra))


def emit_prd_completed(prd_id: str, success: bool = True, **extra: Any) -> None:  # noqa: FBT001, FBT002 - promised
    _emit_sync("prd.completed", prd_id, None, payloads.prd_completed(success, extra))
