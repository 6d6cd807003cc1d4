"""The daemon as a process: event loop, log, signals and the service manager around one server."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import structlog

from claude_loop.heap import settle
from claude_loop.instance import is_running
from claude_loop.observability.logs import configure_logging
from claude_loop.paths import Home
from claude_loop.settings import Settings
from claude_loop.stop_deadline import end_process_after
from claude_loop.supervision import TaskOwner
from claude_loop.systemd_protocol import ServiceManager, passed_sockets
from claude_loop.websocket_server import ClaudeLoopWebSocketServer

log = structlog.get_logger(__name__)

# Less than `down` waits before it kills: whoever looks into the log finds out what hung.
STOP_SECONDS = 12.0

# How often to look whether another daemon has let go of the home, and how long systemd is asked to wait each time.
_LOOK_SECONDS = 0.3
_EXTENSION_SECONDS = 30.0


def run(settings: Settings, arguments: tuple[str, ...] = ()) -> None:
    """Serve until SIGTERM or SIGINT, then stop, in bounded time. ``arguments`` are those that `serve` was given.

    Raises the ``ClaudeLoopError`` that keeps the server from starting.
    """
    configure_logging(settings.log_level)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, arguments))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.Loop


async def _serve(settings: Settings, arguments: tuple[str, ...]) -> None:
    manager = ServiceManager.from_environment()
    inherited = [passed.socket for passed in passed_sockets()]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if manager.started_us and not await _has_turn(manager, stop):
        return
    server = ClaudeLoopWebSocketServer.from_settings(settings, inherited=inherited, arguments=arguments)
    await server.start()
    settle()
    log.info("serving", url=server.url, home=str(server.home.root))
    tasks = TaskOwner("daemon")
    tasks.spawn(manager.keep_alive(), "watchdog")
    manager.ready(f"serving {server.url}")
    try:
        await stop.wait()
    finally:
        manager.stopping()
        end_process_after(STOP_SECONDS, loop)
        await tasks.close()
        await server.stop()
        log.info("stopped")


async def _has_turn(manager: ServiceManager, stop: asyncio.Event) -> bool:
    """Wait while a daemon that somebody started by hand has the home; False if we are stopped meanwhile.

    A unit that failed for it would be started for each event anew, until systemd has enough of that and starts it, its
    socket and its path no more.
    """
    home = Home.from_environment()
    waits = False
    while is_running(home):
        if not waits:
            waits = True
            log.info("waiting for the daemon that has this home", home=str(home.root))
            manager.status(f"waiting for the daemon that has {home.root}")
        manager.extend_start(_EXTENSION_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
            return False
    return True
