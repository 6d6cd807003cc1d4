"""Engine.IO on aiohttp, mended where it does not suit a server that must not be harmed by a silent client.

Beyond engineio's documented interface this uses ``AsyncSocket``, ``AsyncServer._handle_connect``, ``_service_task``
and the table of its aiohttp driver. The version is pinned, and tests hold on to each behaviour relied on here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import engineio
import structlog
from aiohttp import WSMsgType, web
from engineio import exceptions, packet
from engineio.async_drivers import aiohttp as driver
from engineio.async_socket import AsyncSocket

from claude_loop.errors import Busy, ClaudeLoopError, InvalidRequest, ShuttingDown, TooLarge
from claude_loop.supervision import TaskOwner
from claude_loop.transports.auth import Principal
from claude_loop.transports.gate import error_response, principal_of
from claude_loop.transports.outbox import Frame, Outbox

log = structlog.get_logger(__name__)

# An unread answer must not make the server hold more than this for one client.
MAX_QUEUED = 1024
MAX_QUEUED_BYTES = 4 * 1024 * 1024
# From here on the client is not read either: what it sends would only make more answers.
_PAUSE_READING = 256
_SEPARATOR = "\x1e"
_SOCKETIO_TYPES = frozenset("0123456")
_OTHER_TYPES = frozenset("12356")  # close, ping, pong, upgrade, noop
_LONGEST_OTHER = 16


class LoopSocket(AsyncSocket):  # type: ignore[misc]  # engineio has no types
    """One Engine.IO session. ``principal`` is who opened it."""

    queue: Outbox

    def __init__(self, server: EngineServer, sid: str, principal: Principal) -> None:
        super().__init__(server, sid)
        self.principal = principal
        self.joined = False
        self._cut_off = False
        self._websocket_request: web.Request | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def on_polling(self) -> bool:
        return not self.upgraded

    async def poll(self) -> list[packet.Packet]:
        """The next round of packets; none at the end. Raises ``QueueEmpty`` when not even a ping came up."""
        try:
            async with asyncio.timeout(self.server.ping_interval + self.server.ping_timeout):
                return await self.queue.take()
        except TimeoutError:
            raise exceptions.QueueEmpty from None

    def push(self, frames: list[Frame]) -> None:
        """Send ``frames`` when the client is ready. A client that lets too much pile up is cut off."""
        if self.closed:
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
        self._websocket_request = environ["aiohttp.request"]
        try:
            response: web.StreamResponse = await super()._upgrade_websocket(environ)
            return response
        finally:
            self._websocket_request = None

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """As engineio's, but a connection that has died quietly goes too, with its writer and its queue."""
        del wait
        self._cancel_timer()
        await super().close(wait=False, abort=abort, reason=reason)
        if reason == self.server.reason.PING_TIMEOUT or not self.upgraded:
            self.cut_off(reason or "closed")

    def finish(self) -> None:
        """Close the connection once what was pushed has left. Both kinds of clients then connect again by themselves,
        which they do not after Engine.IO's or Socket.IO's own farewell."""
        self.queue.put_nowait(None)

    def cut_off(self, reason: str) -> None:
        """End the connection at once, without waiting for the client."""
        if self._cut_off:
            return
        self._cut_off = True
        log.info("client cut off", sid=self.sid, reason=reason, queued=len(self.queue))
        self.queue.put_nowait(None)
        request = self._websocket_request
        if request is not None and request.transport is not None:
            request.transport.abort()
        if not self.closed and not self.closing:
            self.server.start_background_task(self.close, abort=True, reason=self.server.reason.TRANSPORT_ERROR)

    def expect_to_join(self, seconds: float) -> None:
        """Cut the session off if its client has not joined the namespace within ``seconds``."""
        self._cancel_timer()
        self.joined = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._not_joined)

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


class LoopWebSocket(driver.WebSocket):  # type: ignore[misc]  # engineio has no types
    """The websocket of one session: uncompressed, with frames that are encoded once for all."""

    async def __call__(self, environ: dict[str, Any]) -> web.WebSocketResponse:
        # permessage-deflate keeps 200 KB and more a client, to compress what stays on this machine.
        self._sock = web.WebSocketResponse(
            max_msg_size=self.server.max_http_buffer_size,
            compress=False,
            writer_limit=65_536,
        )
        await self._sock.prepare(environ["aiohttp.request"])
        self.environ = environ
        await self.handler(self)
        return self._sock

    async def send(self, message: str | bytes | Frame) -> None:
        if isinstance(message, Frame):
            await self._sock.send_frame(message.utf8, WSMsgType.TEXT)
        else:
            await super().send(message)

    async def wait(self) -> str | bytes:
        """The next packet. Raises ``OSError``, which ends the session in order, at the end and for what is no packet."""
        data: str | bytes = await super().wait()
        return checked(data) if isinstance(data, str) else data


class LimitedResponse(web.Response):
    """A polling response that gives up when the client does not read it."""

    def __init__(self, *, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._seconds = seconds

    async def write_eof(self, data: bytes = b"") -> None:
        request = self._req
        try:
            async with asyncio.timeout(self._seconds):
                await super().write_eof(data)
        except TimeoutError:
            if request is not None and request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read") from None


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]  # engineio has no types
    """Engine.IO sessions of one server.

    ``write_timeout`` and ``join_seconds`` are seconds, ``max_sessions`` bounds the sessions open at once.
    """

    def __init__(self, *, write_timeout: float, join_seconds: float, max_sessions: int, **options: Any) -> None:
        super().__init__(**options)
        self.tasks = TaskOwner("engineio")
        self.write_timeout = write_timeout
        self.closing = False
        self._join_seconds = join_seconds
        self._max_sessions = max_sessions
        self._async = {
            **self._async,
            "translate_request": _translate_request,
            "make_response": self._limited_response,
            "websocket": LoopWebSocket,
        }

    def find(self, sid: str) -> LoopSocket | None:
        """The open session ``sid``, if there is one."""
        socket: LoopSocket | None = self.sockets.get(sid)
        return None if socket is None or socket.closed else socket

    def open_sessions(self) -> list[LoopSocket]:
        return [socket for socket in self.sockets.values() if not socket.closed]

    def create_queue(self, *args: Any, **options: Any) -> Outbox:
        del args, options
        return Outbox()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **options: Any) -> asyncio.Task[Any]:
        return self.tasks.spawn(target(*args, **options), getattr(target, "__name__", "task"))

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """One HTTP request of a client: handshake, poll, post or upgrade."""
        try:
            return await self._handle_checked(request)
        except ClaudeLoopError as error:
            return error_response(error)

    async def _handle_checked(self, request: web.Request) -> web.StreamResponse:
        if self.closing:
            raise ShuttingDown("The server is stopping.")
        if "j" in request.query:
            raise InvalidRequest("JSONP polling is refused.")
        sid = request.query.get("sid")
        if sid is None:
            if request.method == "GET" and len(self.sockets) >= self._max_sessions:
                raise Busy(f"All {self._max_sessions} sessions are taken.", hint="Try later.")
        else:
            socket = self.find(sid)
            if socket is None:
                raise InvalidRequest("There is no such Engine.IO session.", field="sid", hint="Connect anew.")
            if request.method == "POST":
                return await self._take_post(socket, request)
        response: web.StreamResponse = await super().handle_request(request)
        return response

    async def _take_post(self, socket: LoopSocket, request: web.Request) -> web.Response:
        """Engine.IO's own would lose, and acknowledge, a body of more than 16 packets and one that is not UTF-8."""
        if socket.upgraded or not socket.connected:
            raise InvalidRequest("This session does not take packets over HTTP.")
        body = await self._read_body(request)
        try:
            packets = [checked(text) for text in body.decode().split(_SEPARATOR)]
        except UnicodeDecodeError:
            raise InvalidRequest("The body is not UTF-8.") from None
        except OSError as failure:
            raise InvalidRequest(f"The body is not made of Engine.IO packets: {failure}.") from None
        for encoded in packets:
            if self.find(socket.sid) is None:
                break
            await socket.receive(packet.Packet(encoded_packet=encoded))
        return web.Response(text="ok")

    async def _read_body(self, request: web.Request) -> bytes:
        body = bytearray()
        async for chunk in request.content.iter_chunked(65_536):
            body += chunk
            if len(body) > self.max_http_buffer_size:
                raise TooLarge(f"At most {self.max_http_buffer_size} bytes are taken at once.")
        return bytes(body)

    async def _handle_connect(
        self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None
    ) -> web.StreamResponse | dict[str, Any]:
        """As engineio's, with ``LoopSocket`` for its socket and without cookies and JSONP."""
        del jsonp_index
        if self.start_service_task:
            self.start_service_task = False
            self.service_task_handle = self.start_background_task(self._service_task)
        request: web.Request = environ["aiohttp.request"]
        socket = LoopSocket(self, self.generate_id(), principal_of(request))
        self.sockets[socket.sid] = socket
        socket.expect_to_join(self._join_seconds)
        socket.queue.put_nowait(packet.Packet(packet.OPEN, self._greeting(socket.sid, transport)))
        await self._trigger_event("connect", socket.sid, environ, run_async=False)
        socket.schedule_ping()
        if transport == "websocket":
            response: web.StreamResponse = await socket.handle_get_request(environ)
            if socket.closed:
                self.sockets.pop(socket.sid, None)
            return response
        socket.connected = True
        answer: dict[str, Any] = self._ok(await socket.poll())
        return answer

    def _greeting(self, sid: str, transport: str) -> dict[str, Any]:
        return {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingTimeout": int(self.ping_timeout * 1000),
            "pingInterval": int(self.ping_interval * 1000),
            "maxPayload": self.max_http_buffer_size,
        }

    def _limited_response(
        self, status: str, headers: list[tuple[str, str]], payload: bytes, environ: dict[str, Any]
    ) -> web.Response:
        del environ
        return LimitedResponse(
            seconds=self.write_timeout, body=payload, status=int(status.split()[0]), headers=dict(headers)
        )


def _translate_request(request: web.Request) -> dict[str, Any]:
    """As engineio's driver, which gives every client the address 127.0.0.1 and believes a forwarded scheme."""
    environ: dict[str, Any] = driver.translate_request(request)
    environ["REMOTE_ADDR"] = request.remote or ""
    environ["wsgi.url_scheme"] = request.scheme
    return environ


def checked(text: str) -> str | bytes:
    """A packet that engineio can take. Raises ``OSError`` for what is none that a client may send.

    A message is a Socket.IO packet, which begins with a digit: anything else engineio would parse as JSON, with the
    recursion of the standard library. Binary packets are refused later, by name; their content is not looked at.
    """
    kind = text[:1]
    if kind == "4" and text[1:2] in _SOCKETIO_TYPES:
        return text
    if kind in _OTHER_TYPES and len(text) <= _LONGEST_OTHER:
        return text
    if kind == "b":
        return b""
    raise OSError("a packet begins with its type, and a message with the type of its Socket.IO packet")
