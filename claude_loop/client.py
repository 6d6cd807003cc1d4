"""HTTP client for a daemon: over its Unix socket, or over TCP when ``CLAUDE_LOOP_URL`` names one elsewhere.

>>> client = DaemonClient(Home(Path("/nowhere")))
>>> client.get("/health")
Traceback (most recent call last):
claude_loop.errors.DaemonUnreachable: No daemon answers on /nowhere/sock.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from claude_loop.errors import ClaudeLoopError, DaemonUnreachable, Forbidden, InvalidRequest
from claude_loop.paths import Home
from claude_loop.transports.unix_path import short_path

# Longer than the server's ping every 15 seconds: a stream silent for longer is dead.
_READ_BYTES = 65_536
STREAM_TIMEOUT = 40.0
REQUEST_TIMEOUT = 30.0
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ELSEWHERE = "CLAUDE_LOOP_URL says where it is looked for."
_UNKNOWN_CERTIFICATE = "If it is the right server, SSL_CERT_FILE=FILE names the certificate (PEM) to believe."


class ServerError(ClaudeLoopError):
    """What the daemon answered instead of a result; ``code`` and ``status`` are the daemon's."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(
            str(error.get("message", "The daemon refused.")),
            hint=str(error.get("hint", "")),
            field=error.get("field"),
        )
        self.code = str(error.get("code", "internal"))  # type: ignore[misc]
        self.status = status  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an event stream. ``event`` is empty for events of the log, and ``data`` then their JSON.

    ``id`` is the cursor behind it.
    """

    event: str
    data: str
    id: str | None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon elsewhere listens; ``prefix`` is the path a proxy put before ours."""

    tls: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ``InvalidRequest``."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in {"http", "https"}:
            raise InvalidRequest(
                f"CLAUDE_LOOP_URL is “{url}”, which is no address of a daemon.",
                hint="It looks like http://127.0.0.1:18790.",
            )
        tls = parts.scheme == "https"
        return cls(tls, host, port or (443 if tls else 80), parts.path.rstrip("/"))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._path) as path:
            self.sock.connect(path)


class DaemonClient:
    """Talks to one daemon. Without ``url`` it is the one of ``home``; ``token`` is for TCP only.

    Raises ``InvalidRequest`` for a URL or a token that cannot be one.
    """

    def __init__(self, home: Home | None = None, url: str | None = None, token: str | None = None) -> None:
        self._home = home or Home.from_environment()
        self._url = url
        self._address = None if url is None else Address.parse(url)
        self._token = None if token is None else token.strip()
        if self._token is not None and not _TOKEN.fullmatch(self._token):
            raise InvalidRequest("CLAUDE_LOOP_TOKEN is set to something that cannot be a token.")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> DaemonClient:
        """As ``CLAUDE_LOOP_URL``, ``CLAUDE_LOOP_TOKEN`` and ``CLAUDE_LOOP_HOME`` say."""
        home = Home.from_environment(environ)
        return cls(home, environ.get("CLAUDE_LOOP_URL") or None, environ.get("CLAUDE_LOOP_TOKEN") or None)

    @property
    def is_elsewhere(self) -> bool:
        return self._url is not None

    @property
    def where(self) -> str:
        return self._url or str(self._home.socket)

    def get(self, path: str, query: Mapping[str, Any] | None = None, timeout: float = REQUEST_TIMEOUT) -> Any:
        """The parsed answer. Raises ``DaemonUnreachable``, ``ServerError``."""
        return self._exchange("GET", _target(path, query), None, timeout)

    def post(self, path: str, body: Any, timeout: float = REQUEST_TIMEOUT) -> Any:
        """Send ``body`` as JSON. Raises ``DaemonUnreachable``, ``ServerError``."""
        return self._exchange("POST", path, json.dumps(body).encode(), timeout)

    def stream(self, query: Mapping[str, Any], last_event_id: str | None = None) -> Iterator[Message]:
        """The messages of ``GET /api/events/stream`` until the connection ends, however it ends.

        Raises ``DaemonUnreachable`` when it cannot be opened, and ``ServerError`` when it is refused.
        """
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        target = _target("/api/events/stream", query)
        connection, response = self._send("GET", target, None, headers, STREAM_TIMEOUT)
        try:
            yield from _messages(response)
        except (OSError, http.client.HTTPException):
            return  # the connection is gone; the caller resumes from the last id it saw
        finally:
            connection.close()

    def _exchange(self, method: str, target: str, body: bytes | None, timeout: float) -> Any:
        connection, response = self._send(method, target, body, {}, timeout)
        try:
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as failure:
            raise DaemonUnreachable(f"The daemon at {self.where} broke off: {failure}.") from failure
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise DaemonUnreachable(f"What answers at {self.where} is no claude-loop daemon.")
        return answer

    def _send(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection(timeout)
        sent = dict(headers)
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self._token and self._address:
            sent["Authorization"] = f"Bearer {self._token}"
        prefix = self._address.prefix if self._address else ""
        try:
            connection.request(method, prefix + target, body, sent)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as failure:
            connection.close()
            raise self._unreachable(failure) from failure
        if response.status >= 300:  # a daemon never sends anybody elsewhere
            raise self._refusal(connection, response)
        return connection, response

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        address = self._address
        if address is None:
            return _UnixConnection(self._home.socket, timeout)
        if address.tls:
            return http.client.HTTPSConnection(address.host, address.port, timeout=timeout)
        if self._token:
            _insist_on_own_listener(address.host, address.port)
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout)

    def _unreachable(self, failure: Exception) -> DaemonUnreachable:
        if isinstance(failure, TimeoutError):
            message = f"The daemon at {self.where} does not answer."
            hint = "If it hangs, `claude-loop down` ends it and `claude-loop up` starts another."
        elif isinstance(failure, FileNotFoundError | ConnectionRefusedError):
            message, hint = f"No daemon answers on {self.where}.", "`claude-loop up` starts it."
        else:
            message, hint = f"The daemon at {self.where} cannot be reached: {failure}.", ""
        if isinstance(failure, ssl.SSLCertVerificationError):
            return DaemonUnreachable(message, hint=_UNKNOWN_CERTIFICATE)
        return DaemonUnreachable(message, hint=_ELSEWHERE if self.is_elsewhere else hint)

    def _refusal(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> ServerError:
        try:
            error = dict(json.loads(response.read())["error"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            error = {"message": f"The server at {self.where} answered {response.status} {response.reason}."}
        finally:
            connection.close()
        if response.status == 401:
            error["hint"] = (
                "CLAUDE_LOOP_TOKEN takes a token; `claude-loop token create` makes one, where that daemon runs."
            )
        return ServerError(response.status, error)


def _target(path: str, query: Mapping[str, Any] | None) -> str:
    given = {key: value for key, value in (query or {}).items() if value is not None and value != ()}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _messages(response: http.client.HTTPResponse) -> Iterator[Message]:
    """Parse an event stream (WHATWG HTML, server-sent events): fields a line, an empty line ends a message."""
    event, data, last_id, seen_id = "", [], None, False
    for line in _lines(response):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "event":
                event = value
            elif name == "id":
                last_id, seen_id = value, True
            continue
        if data or seen_id:
            yield Message(event, "\n".join(data), last_id)
        event, data, seen_id = "", [], False


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines as they come. `readline` of a chunked response costs several times as much."""
    rest: list[bytes] = []
    while part := response.read1(_READ_BYTES):
        *whole, last = part.split(b"\n")
        if whole:
            yield b"".join((*rest, whole[0]))
            yield from whole[1:]
            rest = []
        rest.append(last)
    if any(rest):
        yield b"".join(rest)


def _insist_on_own_listener(host: str, port: int) -> None:
    """Refuse to send a token to a listener on this machine that belongs to another user."""
    from claude_loop.transports.peer import listener_is_ours  # noqa: PLC0415 - only where a token goes over TCP

    if listener_is_ours(host, port) is not False:
        return
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        raise DaemonUnreachable(f"Nothing listens on {host}:{port}.", hint=_ELSEWHERE) from None
    raise Forbidden(
        f"The server on {host}:{port} belongs to another user; the token was not sent.",
        hint="Stop that server, or set CLAUDE_LOOP_URL to another port.",
    )
