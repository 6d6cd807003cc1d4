"""The embeddable server: what runs in it from start to stop, in order. What it serves is put together in `serving`.

    server = ClaudeLoopWebSocketServer(port=18790)
    await server.start()
    await server.broadcast("story.started", {"prd_id": "PRD-001", "story_id": "US-001"})
    await server.stop()

``python -m claude_loop.websocket_server`` runs one until it is interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from claude_loop import background, context, launch
from claude_loop.build import full_version
from claude_loop.client import DaemonClient
from claude_loop.clock import Clock, SystemClock, rfc3339
from claude_loop.errors import ClaudeLoopError, NotSupported, ShuttingDown
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import ID_KEYS
from claude_loop.hub import Hub
from claude_loop.instance import DaemonNote, InstanceLock
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.spool import SpoolIntake
from claude_loop.observability.health import Health
from claude_loop.observability.logs import configure_logging
from claude_loop.paths import Home
from claude_loop.progress.projection import ProgressProjection
from claude_loop.serving import Ground, Serving
from claude_loop.settings import Settings, load_settings
from claude_loop.supervision import TaskOwner
from claude_loop.transports.listeners import Listeners
from claude_loop.transports.socketio import SocketIOTransport

# At the interpreter's default of 5 ms the log's writer thread waits for the event loop so long that a commit takes
# seconds.
SWITCH_INTERVAL = 0.0005
_DESCRIPTION = "Run the claude-loop server until SIGTERM or Ctrl-C. Settings: docs/settings.md."
# What the server answers itself; a handler for these would never be called.
_OWN_EVENTS = frozenset({"event", "subscribe", "watch", "subscribe_prd", "unsubscribe_prd"})


class ClaudeLoopWebSocketServer:
    """A whole daemon inside this process. One home has one server at a time.

    ``port`` 0 lets the system choose; ``port`` and ``url`` then tell. ``event_bus`` hears of every event after the
    log has it. A server belongs to the event loop it was started on; it may be started again after a stop.
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
        arguments: tuple[str, ...] | None = None,
    ) -> None:
        """``arguments`` are those with which `serve` starts the same again; None where this is part of a program."""
        self.host = host
        self.port = port
        self.url = ""
        self.home = home or Home.from_environment()
        self.settings = (settings or load_settings()).model_copy(update={"host": host, "port": port})
        self._clock = clock or SystemClock()
        self._inherited = inherited
        self._arguments = arguments
        self._stack: AsyncExitStack | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()  # one start or stop at a time
        self._handlers: dict[str, Callable[[str, Any], Any]] = {}
        self._acceptor = Acceptor(self.settings.limits, self.settings.redact, self._clock)
        self.event_bus = EventBus(clock=self._clock)
        self.hub = self._new_hub()
        self._socketio: SocketIOTransport | None = None

    def _new_hub(self) -> Hub:
        store = SqliteEventLog(self.home.database, ProgressProjection(), self._clock, self.settings.durability)
        return Hub(store, self.event_bus)

    @classmethod
    def from_settings(cls, settings: Settings, **options: Any) -> ClaudeLoopWebSocketServer:
        """A server where ``settings`` say; ``options`` are keywords of the constructor."""
        return cls(settings.host, settings.port, settings=settings, **options)

    @property
    def clients(self) -> set[str]:
        """The sids of connected Socket.IO clients."""
        return self._socketio.clients if self._socketio is not None else set()

    @property
    def subscriptions(self) -> dict[str, set[str]]:
        """For each PRD id the sids that subscribed to it."""
        return self._socketio.subscriptions if self._socketio is not None else {}

    async def start(self) -> None:
        """Serve. Raises ``AlreadyRunning``, ``PortTaken``, ``UnsafeHome`` and other errors of ``errors.py``.

        After a failure nothing is left open or locked.
        """
        async with self._turn:
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
            async with AsyncExitStack() as stack:
                await self._start(stack)
                self._stack = stack.pop_all()
                self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Stop accepting, finish what was accepted, say goodbye, close the log. Bounded; repeating it is harmless."""
        async with self._turn:
            stack, self._stack = self._stack, None
            if stack is not None:
                await stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        """Each part puts its end on ``stack``: they end in the opposite order, readers before the log."""
        self.home.prepare()
        lock = InstanceLock(self.home)
        lock.acquire()
        stack.callback(lock.release)
        # Last but one: while a daemon stops, its note still tells who holds the lock.
        stack.callback(self.home.daemon_json.unlink, missing_ok=True)
        listeners = Listeners(self.settings)
        listeners.bind(unix_socket=self.home.socket, inherited=self._inherited)
        stack.callback(listeners.close)
        self._inherited = ()  # closed with the others
        self.port, self.url = listeners.port or self.port, listeners.url
        stack.push_async_callback(self.event_bus.close)
        self.hub = self._new_hub()
        await self.hub.start()
        stack.push_async_callback(self.hub.stop)
        health = Health(self.hub.log)
        tasks = TaskOwner("server", on_failure=health.task_failed)
        stack.push_async_callback(tasks.close)
        spool = SpoolIntake(self.home, self.hub, self._acceptor, self._clock)
        search = background.start_search(stack, self.hub, self.home, health)
        ground = Ground(self.home, self.settings, self._clock, self.hub, self._acceptor, health, tasks, spool, search)
        serving = Serving(ground, self.url, self._handlers)
        self._socketio = serving.socketio
        await serving.start(stack, listeners)
        stack.push_async_callback(spool.stop)
        await spool.start()
        background.follow_wrapped_runs(stack, self.hub, self.home, self._acceptor, self._clock, health, spool)
        background.start_upkeep(tasks, self.hub, self._clock, self.settings.retention)
        self._leave_note()

    def _leave_note(self) -> None:
        started_at = rfc3339(self._clock.now_us() // 1000)
        DaemonNote(os.getpid(), self.url, full_version(), started_at, self._arguments).write(self.home)

    async def broadcast(self, event_type: str, data: Mapping[str, Any]) -> int:
        """Publish an event: stored, then delivered. Ids that ``data`` holds (``prd_id``, ``story_id``, …) are the
        event's; those it lacks come from the environment (``CLAUDE_LOOP_PRD`` and so on), as for every emitter.

        Returns its ``seq``. Raises ``InvalidEvent`` and other errors of ``errors.py``.
        """
        return await self._publish(event_type, data, {})

    async def send_to_prd_subscribers(self, prd_id: str, event_type: str, data: Mapping[str, Any]) -> int:
        """Publish an event of one PRD. Returns its ``seq``; raises as ``broadcast``."""
        return await self._publish(event_type, data, {"prd_id": prd_id})

    async def _publish(self, event_type: str, data: Mapping[str, Any], ids: Mapping[str, str]) -> int:
        if self._stack is None:
            raise ShuttingDown("This server does not run.")
        if asyncio.get_running_loop() is not self._loop:
            hint = "Call it there, with asyncio.run_coroutine_threadsafe."
            raise NotSupported("This server belongs to another event loop.", hint=hint)
        found = {key: data[key] for key in ID_KEYS if isinstance(data.get(key), str)}
        raw = {**context.inherited(), **found, **ids, "type": event_type, "data": dict(data)}
        event = self._acceptor.accept(raw, source="python")
        (outcome,) = await self.hub.publish([event])
        if outcome.error is not None:
            raise outcome.error
        return outcome.seq

    async def send_to_client(self, sid: str, event_type: str, data: Mapping[str, Any]) -> bool:
        """Send an `event` message to one client alone; it is not stored. False when that client is not connected."""
        message = {"type": event_type, "prd_id": data.get("prd_id"), "story_id": data.get("story_id")}
        message |= {"timestamp": rfc3339(self._clock.now_us() // 1000), "data": dict(data)}
        return self._socketio is not None and self._socketio.send_to_client(sid, "event", message)

    def register_handler(self, event_type: str, handler: Callable[..., Any]) -> None:
        """Answer the clients' ``event_type``, with a sync or async function.

        A handler for ``control_prd`` is called with ``(action, prd_id)``, any other with ``(sid, payload)``. What it
        returns is the answer; a ``ClaudeLoopError`` it raises is the client's error. Raises ``NotSupported`` for the
        events that the server answers itself.
        """
        if event_type in _OWN_EVENTS:
            raise NotSupported(f"The server answers `{event_type}` itself.", hint="Choose another name.")
        if event_type == "control_prd":
            self._handlers[event_type] = lambda _sid, payload: handler(payload["action"], payload["prd_id"])
        else:
            self._handlers[event_type] = handler

    async def run_forever(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop. In another thread than the main one: until cancelled."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Only the main thread hears of signals.
        hears = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGTERM, signal.SIGINT) if hears else ()
        for number in signals:
            loop.add_signal_handler(number, stopped.set)
        try:
            await self.start()
            try:
                await stopped.wait()
            finally:
                await self.stop()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


def main() -> None:
    """``python -m claude_loop.websocket_server [--host] [--port] [--daemon]``."""
    parser = argparse.ArgumentParser(prog="python -m claude_loop.websocket_server", description=_DESCRIPTION)
    parser.add_argument("--host", help="Address to bind. [default: 127.0.0.1, and ::1 with it]")
    parser.add_argument("--port", type=int, help="TCP port; 0 lets the system choose. [default: 18790]")
    parser.add_argument("--daemon", action="store_true", help="Run in the background; return when it answers.")
    given = parser.parse_args()
    try:
        if given.daemon:
            _start_in_background({"host": given.host, "port": given.port})
        else:
            settings = load_settings(host=given.host, port=given.port)
            configure_logging(settings.log_level)
            flags = _flags({"host": given.host, "port": given.port})
            asyncio.run(ClaudeLoopWebSocketServer.from_settings(settings, arguments=flags).run_forever())
    except ClaudeLoopError as failure:
        sys.exit(f"{failure.message}\n  {failure.hint}")


def _flags(chosen: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"--{name}={value}" for name, value in chosen.items() if value is not None)


def _start_in_background(chosen: Mapping[str, Any]) -> None:
    home = Home.from_environment()
    started = launch.start(home, DaemonClient(home), _flags(chosen))
    note = DaemonNote.read(home)
    where = f" at {note.url} (pid {note.pid})" if note else ""
    sys.stderr.write(f"claude-loop {'started' if started else 'already runs'}{where}.\n")


if __name__ == "__main__":
    main()
