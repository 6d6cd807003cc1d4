"""One accepted connection: who is at the other end, how many there may be, how long the first request may take."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from claude_loop.errors import Busy, ClaudeLoopError, Internal, InvalidRequest, RequestTimeout, TooLarge
from claude_loop.settings import Settings
from claude_loop.transports.auth import asks_for_users
from claude_loop.transports.peer import Peer, SocketDiagnostics, packed_loopback, unix_peer_uid

log = structlog.get_logger(__name__)

MAX_LINE = 8190  # bytes of the request line, and of one header
MAX_HEADERS = 128
# An idle connection is kept this long. It also bounds a later request head that never ends.
KEEPALIVE_SECONDS = 75.0
# What a refused client still sends is read and thrown away this long, so that it sees why it was refused.
LINGER_SECONDS = 2.0

NETWORK = Peer("network")


class ConnectionRules:
    """What holds for all connections of one server: identification and limits."""

    def __init__(self, settings: Settings) -> None:
        self.handshake_seconds = settings.limits.handshake_seconds
        self.max_connections = settings.limits.connections
        self.refused = 0
        self._open = 0
        asks = asks_for_users(behind_proxy=settings.insecure_behind_proxy)
        self._diagnostics = SocketDiagnostics() if asks else None

    def __len__(self) -> int:
        """Open TCP connections."""
        return self._open

    def take_place(self, peer: Peer) -> bool:
        """Count a new connection; False when there is no room. The Unix socket is free: others cannot fill it."""
        if peer.via == "unix":
            return True
        if self._open >= self.max_connections:
            self.refused += 1
            return False
        self._open += 1
        return True

    def leave_place(self, peer: Peer) -> None:
        if peer.via != "unix":
            self._open -= 1

    def identify(self, transport: asyncio.BaseTransport) -> Peer:
        """Who connected. Asked once, at accept: later the other end may be closing, and then nobody can tell."""
        connection = transport.get_extra_info("socket")
        if connection is None:
            return NETWORK
        if connection.family == socket.AF_UNIX:
            return Peer("unix", unix_peer_uid(connection))
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not (remote and local and packed_loopback(remote[0]) and packed_loopback(local[0])):
            return NETWORK
        owner = self._diagnostics.connection_owner(remote, local) if self._diagnostics is not None else None
        return Peer("loopback", None if owner is None else owner.uid)

    def close(self) -> None:
        if self._diagnostics is not None:
            self._diagnostics.close()


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, with its peer, its place and a time limit for the first request head."""

    __slots__ = ("_has_place", "_head_timer", "_rules", "peer")

    def __init__(self, server: web.Server, rules: ConnectionRules) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            auto_decompress=False,  # a small body that becomes a huge one is refused, not unpacked
            lingering_time=LINGER_SECONDS,
        )
        self._rules = rules
        self._has_place = False
        self._head_timer: asyncio.TimerHandle | None = None
        self.peer = NETWORK

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = self._rules.identify(transport)
        self._has_place = self._rules.take_place(self.peer)
        if not self._has_place:
            message = f"All {self._rules.max_connections} connections are taken."
            _say_and_close(transport, Busy(message, hint="Close some, or raise the limit `connections`."))
            return
        super().connection_made(transport)
        self._head_timer = asyncio.get_running_loop().call_later(self._rules.handshake_seconds, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._has_place:
            self._has_place = False
            self._rules.leave_place(self.peer)
        super().connection_lost(exc)

    def _head_is_late(self) -> None:
        if self._request_count == 0 and self.transport is not None:
            seconds = self._rules.handshake_seconds
            _say_and_close(self.transport, RequestTimeout(f"No complete request head within {seconds:g} s."))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp itself refuses, and what a handler failed at, like every other error."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; it can only be cut off")
        error: ClaudeLoopError
        if isinstance(exc, LineTooLong):
            hint = f"A header may have {MAX_LINE} bytes, a request {MAX_HEADERS} of them."
            error = TooLarge("The head of the request is too large.", hint=hint)
        elif isinstance(exc, HttpProcessingError):
            error = InvalidRequest("This is not HTTP as the server understands it.", hint=str(message or "")[:200])
        else:
            log.error("request failed", method=request.method, path=request.path, status=status, exc_info=exc)
            error = Internal("The request failed.")
        response = web.json_response({"error": error.as_dict()}, status=error.status)
        response.force_close()
        return response


def peer_of(request: web.BaseRequest) -> Peer:
    """Who is at the other end of the request's connection."""
    protocol: Any = request.protocol
    return protocol.peer if isinstance(protocol, Connection) else NETWORK


def _say_and_close(transport: Any, error: ClaudeLoopError) -> None:
    """Answer on a connection that has no request to answer."""
    body = json.dumps({"error": error.as_dict()}).encode()
    head = f"HTTP/1.1 {error.status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    transport.close()
