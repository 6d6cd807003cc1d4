"""Engine.IO on aiohttp, mended where it does not suit a server that must not be harmed by a silent client.

Beyond engineio's documented interface this uses ``AsyncSocket``, ``AsyncServer._handle_connect``, ``_service_task``
and the table of its aiohttp driver. The version is pinned, and tests hold on to each behaviour relied on here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import engineio
import structlog
from aiohttp import WSMsgType, web
from engineio import packet
from engineio.async_drivers import aiohttp as driver

from claude_loop.errors import Busy, ClaudeLoopError, InvalidRequest, ShuttingDown, TooLarge
from claude_loop.supervision import TaskOwner
from claude_loop.transports.engineio_socket import LoopSocket
from claude_loop.transports.gate import error_response, principal_of
from claude_loop.transports.outbox import Frame, Outbox

log = structlog.get_logger(__name__)

_SEPARATOR = "\x1e"
_SOCKETIO_TYPES = frozenset("0123456")
_OTHER_TYPES = frozenset("12356")  # close, ping, pong, upgrade, noop
_LONGEST_OTHER = 16


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
        """The next packet. Raises ``OSError``, which ends the session, at the end and for what is no packet."""
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

    _async: dict[str, Any]
    start_service_task: bool

    def __init__(self, *, write_timeout: float, join_seconds: float, max_sessions: int, **options: Any) -> None:
        super().__init__(**options)
        self.tasks = TaskOwner("engineio")
        self.write_timeout = write_timeout
        self.closing = False
        self.cut_off = 0
        self.join_seconds = join_seconds
        self._max_sessions = max_sessions
        self._async = {
            **self._async,
            "translate_request": _translate_request,
            "make_response": self._limited_response,
            "websocket": LoopWebSocket,
        }

    def find(self, sid: str | None) -> LoopSocket | None:
        """The open session ``sid``, if there is one."""
        socket: LoopSocket | None = self.sockets.get(sid)
        return None if socket is None or socket.closed else socket

    def open_sessions(self) -> list[LoopSocket]:
        return [socket for socket in self.sockets.values() if not socket.closed]

    async def wait_for_end(self, sockets: list[LoopSocket], seconds: float) -> None:
        """Wait for ``sockets`` to end by themselves, at most ``seconds``; the rest is cut off."""
        try:
            async with asyncio.timeout(seconds):
                for socket in sockets:
                    await socket.end()
        except TimeoutError:
            log.info("clients did not take their farewell", sessions=sum(not socket.closed for socket in sockets))
        for socket in sockets:
            if not socket.closed:
                socket.cut_off("did not take its farewell")
                await socket.close(abort=True, reason=self.reason.SERVER_DISCONNECT)

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
        if "j" in request.query:
            raise InvalidRequest("JSONP polling is refused.")
        sid = request.query.get("sid")
        if sid is None:
            if self.closing:
                raise ShuttingDown("The server is stopping.")
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
        socket.expect_to_join()
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
        return LimitedResponse(seconds=self.write_timeout, body=payload, status=int(status[:3]), headers=dict(headers))


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
