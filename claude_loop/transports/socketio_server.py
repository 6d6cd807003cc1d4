"""Socket.IO packets in, calls to a receiver out: python-socketio's server without its ways to lose or leak.

The packets of one client are handled one after the other, in order; a client whose answers pile up is not read.
Broadcasts and rooms are not used at all: a broadcast also reaches clients whose connect is still being checked.
"""

from __future__ import annotations

from typing import Any, Protocol

import orjson
import socketio
import structlog
from socketio import packet
from socketio.exceptions import ConnectionRefusedError as Refused

from claude_loop.errors import ClaudeLoopError, Internal, InvalidJson, InvalidRequest
from claude_loop.intake import wide_integers
from claude_loop.transports import wire
from claude_loop.transports.engineio_driver import EngineServer
from claude_loop.transports.engineio_socket import LoopSocket
from claude_loop.transports.outbox import Frame

log = structlog.get_logger(__name__)

_ONE_OBJECT = "Send packets of the form 42[name, object]; docs/socketio.md lists the names."


class StrictJson:
    """orjson in the shape python-socketio asks for. Refuses NaN and lone surrogates, which JSON does not have, and does
    not make floats of integers beyond 64 bits."""

    @staticmethod
    def dumps(value: Any, **_layout: Any) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        return wide_integers.loads(text)


class StrictPacket(packet.Packet):  # type: ignore[misc]  # python-socketio has no types
    json = StrictJson
    uses_binary_events = False


class Reply:
    """The answer to one packet. Errors always reach the client: as an `error` message if it asked for no answer."""

    def __init__(self, socket: LoopSocket, number: int | None) -> None:
        self._socket = socket
        self._number = number

    def ok(self, payload: Any) -> None:
        if self._number is not None:
            self._socket.push([Frame(wire.ack(self._number, payload))])

    def error(self, error: ClaudeLoopError) -> None:
        if self._number is None:
            self._socket.push([Frame(wire.message("error", error.as_dict()))])
        else:
            self.ok(wire.error_body(error))


class Receiver(Protocol):
    """What the server tells of its clients; ``sid`` is the Socket.IO one."""

    async def admit(self, sid: str, socket: LoopSocket, auth: dict[str, Any]) -> None:
        """Check a new client. Raises ``ClaudeLoopError`` to refuse it."""

    def joined(self, sid: str) -> None:
        """An admitted client has been told that it is connected."""

    async def received(self, sid: str, name: str, payload: Any, reply: Reply) -> None:
        """One event of a client. Raises ``ClaudeLoopError`` to have the reply say so."""

    def malformed(self, error: ClaudeLoopError) -> None:
        """A client sent something that is no event."""

    def left(self, sid: str) -> None:
        """An admitted client is gone."""


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]  # python-socketio has no types
    """Namespace ``/`` only; text only. ``options`` are those of ``EngineServer``."""

    eio: EngineServer

    def __init__(self, receiver: Receiver, **options: Any) -> None:
        super().__init__(serializer=StrictPacket, always_connect=False, **options)
        self._receiver = receiver
        self.on("connect", self._check)
        self.on("disconnect", self._left)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def _check(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        # Anything but Refused would leave the client connected.
        del environ
        try:
            await self._receiver.admit(sid, self._socket_of(sid), _auth_object(auth))
        except ClaudeLoopError as error:
            self._receiver.malformed(error)
            raise Refused(error.message, error.as_dict()) from None
        except Exception as failure:
            log.exception("a Socket.IO connect failed", sid=sid)
            defect = Internal("The connection could not be checked.")
            raise Refused(defect.message, defect.as_dict()) from failure

    def _socket_of(self, sid: str) -> LoopSocket:
        """Raises ``InvalidRequest`` when the client has gone meanwhile."""
        socket = self.eio.find(self.manager.eio_sid_from_sid(sid, "/"))
        if socket is None:
            raise InvalidRequest("The connection is gone.", hint="Connect anew.")
        return socket

    async def _left(self, sid: str, reason: str = "") -> None:
        del reason
        socket = self.eio.find(self.manager.eio_sid_from_sid(sid, "/"))
        if socket is not None:
            socket.expect_to_join()  # it may connect to the namespace again, over the same session
        self._receiver.left(sid)

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        await super()._handle_connect(eio_sid, namespace, data)
        sid = self.manager.sid_from_eio_sid(eio_sid, "/")
        if sid is None or not self.manager.is_connected(sid, "/"):
            return
        socket = self.eio.find(eio_sid)
        if socket is None:
            # Its connection ended while it was being checked; python-socketio would keep it for ever.
            await self._handle_disconnect(eio_sid, "/")
        elif not socket.joined:
            socket.has_joined()
            self._receiver.joined(sid)

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        socket = self.eio.find(eio_sid)
        if socket is None:
            return
        async with socket.turn:
            try:
                await socket.readable()
            except ConnectionAbortedError:
                return  # cut off: what it sent meanwhile has nobody to be answered to
            await self._handle(socket, data)

    async def _handle(self, socket: LoopSocket, data: str | bytes) -> None:
        try:
            received = self._parse(data)
        except ClaudeLoopError as error:
            self._refuse(socket, None, error)
            return
        namespace = received.namespace or "/"
        if received.packet_type == packet.CONNECT:
            await self._handle_connect(socket.sid, namespace, received.data)
        elif received.packet_type == packet.DISCONNECT:
            await self._handle_disconnect(socket.sid, namespace)
        elif received.packet_type == packet.EVENT:
            await self._receive(socket, namespace, received)
        elif received.packet_type in (packet.BINARY_EVENT, packet.BINARY_ACK):
            self._refuse(socket, received.id, InvalidRequest("Binary data is not taken.", hint=_ONE_OBJECT))
        # Anything else answers a question that was never asked.

    def _parse(self, data: str | bytes) -> StrictPacket:
        if not isinstance(data, str):
            raise InvalidRequest("Binary data is not taken.", hint=_ONE_OBJECT)
        try:
            return StrictPacket(encoded_packet=data)
        except ValueError as failure:
            raise InvalidJson(f"The packet cannot be read: {failure}.", hint=_ONE_OBJECT) from None

    async def _receive(self, socket: LoopSocket, namespace: str, received: StrictPacket) -> None:
        sid = self.manager.sid_from_eio_sid(socket.sid, namespace)
        if sid is None or not socket.joined:
            return
        reply = Reply(socket, received.id)
        try:
            name, payload = _name_and_payload(received.data)
            await self._receiver.received(sid, name, payload, reply)
        except ClaudeLoopError as error:
            self._receiver.malformed(error)
            reply.error(error)
        except Exception:
            log.exception("a Socket.IO event could not be handled", sid=sid)
            reply.error(Internal("The event could not be handled."))

    def _refuse(self, socket: LoopSocket, number: int | None, error: ClaudeLoopError) -> None:
        self._receiver.malformed(error)
        if socket.joined:
            Reply(socket, number).error(error)


def _auth_object(auth: Any) -> dict[str, Any]:
    if auth is None:
        return {}
    if not isinstance(auth, dict):
        raise InvalidRequest("`auth` must be an object.", field="auth", hint='For example {"token": "..."}.')
    return auth


def _name_and_payload(content: Any) -> tuple[str, Any]:
    if not isinstance(content, list) or not content or not isinstance(content[0], str):
        raise InvalidRequest("An event packet is a list that begins with a name.", hint=_ONE_OBJECT)
    if len(content) > 2:
        raise InvalidRequest("An event has one argument.", hint=_ONE_OBJECT)
    return content[0], content[1] if len(content) == 2 else None
