"""One Engine.IO session: its packets leave in rounds, and whatever happens to its client, it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from engineio import packet
from engineio.async_socket import AsyncSocket
from typing_extensions import override

from claude_loop.errors import InvalidRequest
from claude_loop.transports.auth import Principal
from claude_loop.transports.outbox import Frame, Outbox

if TYPE_CHECKING:
    from claude_loop.transports.engineio_driver import EngineServer

log = structlog.get_logger(__name__)

# An unread answer must not make the server hold more than this for one client.
MAX_QUEUED = 1024
MAX_QUEUED_BYTES = 4 * 1024 * 1024
# From here on the client is not read either: what it sends would only make more answers.
_PAUSE_READING = 256


class LoopSocket(AsyncSocket):  # type: ignore[misc]  # engineio has no types
    """One Engine.IO session. ``principal`` is who opened it; ``turn`` is held while one of its packets is handled."""

    queue: Outbox
    last_ping: float | None

    def __init__(self, server: EngineServer, sid: str, principal: Principal) -> None:
        super().__init__(server, sid)
        self.principal = principal
        self.turn = asyncio.Lock()
        self.joined = False
        self._cut_off = False
        self._ended = asyncio.Event()
        self._websocket_request: web.Request | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_ping: asyncio.Task[None] | None = None

    @property
    def on_polling(self) -> bool:
        return not self.upgraded

    async def poll(self) -> list[packet.Packet]:
        """The next round of packets; none at the end. Without a time limit: a ping comes up, or the session ends."""
        return await self.queue.take()

    @property
    def ready(self) -> bool:
        """Whether everything pushed or written has left: its writer waits for more, so nothing is overtaken."""
        transport = self._transport
        return (
            transport is not None
            and self.upgraded
            and self.queue.is_idle
            and not self._cut_off
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    def write(self, frames: list[Frame]) -> None:
        """Send ``frames`` at once, past the writer; only while ``ready``."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # it broke under the frames before these
        # At once: a system call and, where the client is gone, a line in the log would else be due for each frame.
        transport.write(frames[0].websocket if len(frames) == 1 else b"".join([frame.websocket for frame in frames]))

    def push(self, frames: list[Frame]) -> None:
        """Send ``frames`` when the client is ready. A client that lets too much pile up is cut off."""
        if self.closed or self._cut_off:
            return
        for frame in frames:
            self.queue.put_nowait(frame)
        if len(self.queue) > MAX_QUEUED or self.queue.bytes > MAX_QUEUED_BYTES:
            self.cut_off("too much unread")

    async def drained(self) -> None:
        """Return when everything pushed so far has left; cuts off a websocket that does not take it in time.

        A polling client has no connection to watch: it is gone when it misses its ping.
        """
        await self._in_time(self.queue.idle())

    async def readable(self) -> None:
        """Return when the client has read enough of its answers for its next packet to be handled."""
        if len(self.queue) >= _PAUSE_READING:
            await self._in_time(self.queue.below(_PAUSE_READING))

    async def _in_time(self, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(None if self.on_polling else self.server.write_timeout):
                await waiting
        except TimeoutError:
            self.cut_off("not reading")
            raise ConnectionAbortedError("the client does not read") from None

    async def _upgrade_websocket(self, environ: dict[str, Any]) -> web.StreamResponse:
        if self._websocket_request is not None:
            raise InvalidRequest("This session is being upgraded already.")
        # Socket.IO's `environ` goes on to hold the first polling request; this is the connection to cut off.
        request = self._websocket_request = environ["aiohttp.request"]
        self._transport = request.transport
        try:
            response: web.StreamResponse = await super()._upgrade_websocket(environ)
            return response
        finally:
            self._websocket_request = self._transport = None
            self.upgrading = False  # or else polls go on to be answered with nothing when it has come to nothing

    @override
    def schedule_ping(self) -> None:
        """As engineio's, which cannot end the wait for the next ping together with the session."""
        if self.last_ping:
            self.last_ping = None
            self._next_ping = self.server.start_background_task(self._send_ping)

    @override
    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """As engineio's, but a connection that has died quietly goes too, with its writer and its queue."""
        del wait
        await super().close(wait=False, abort=abort, reason=reason)
        self._cancel_timer()
        if not self.closed:
            return  # it is being closed further up
        self._ended.set()
        if self._next_ping is not None and self._next_ping is not asyncio.current_task():
            self._next_ping.cancel()
        if reason == self.server.reason.PING_TIMEOUT:
            self.cut_off("no answer to a ping")
        elif self.on_polling:
            self._abandon()  # whoever polls, or has begun to upgrade

    def finish(self) -> None:
        """Begin to close the connection, once what was pushed has left. Clients then connect again by themselves,
        which they do not after Engine.IO's or Socket.IO's own farewell."""
        self.queue.put_nowait(None)

    async def end(self) -> None:
        """Wait for the end of what ``finish`` began."""
        if self.on_polling:
            await self.queue.below(2)  # what remains is the end marker, which stays for whoever polls again
            await self.close(abort=True, reason=self.server.reason.SERVER_DISCONNECT)
        else:
            await self._ended.wait()

    def cut_off(self, reason: str) -> None:
        """End the connection at once, without waiting for the client."""
        if self._cut_off:
            return
        self._cut_off = True
        self.server.cut_off += 1
        log.info("client cut off", sid=self.sid, reason=reason, queued=len(self.queue))
        self._abandon()
        if not self.closed and not self.closing:
            self.server.start_background_task(self.close, abort=True, reason=self.server.reason.TRANSPORT_ERROR)

    def _abandon(self) -> None:
        self.queue.put_nowait(None)
        request = self._websocket_request
        if request is not None and request.transport is not None:
            request.transport.abort()

    def expect_to_join(self) -> None:
        """Cut the session off if its client does not join the namespace in time."""
        self._cancel_timer()
        self.joined = False
        self._timer = asyncio.get_running_loop().call_later(self.server.join_seconds, self._not_joined)

    def has_joined(self) -> None:
        self._cancel_timer()
        self.joined = True

    def _not_joined(self) -> None:
        if not self.joined and not self.closed:
            self.cut_off("no Socket.IO connect in time")

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
