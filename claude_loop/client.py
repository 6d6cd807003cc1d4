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
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from claude_loop.errors import ClaudeLoopError, DaemonUnreachable, Forbidden
from claude_loop.paths import Home

# Longer than the server's ping every 15 seconds: a stream silent for longer is dead.
STREAM_TIMEOUT = 40.0
REQUEST_TIMEOUT = 30.0


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
    """One message of an event stream. ``event`` is empty for events of the log, and ``data`` then their JSON."""

    event: str
    data: str
    id: str | None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DaemonClient:
    """Talks to one daemon. Without ``url`` it is the one of ``home``; ``token`` is for TCP only."""

    def __init__(self, home: Home | None = None, url: str | None = None, token: str | None = None) -> None:
        self._home = home or Home.from_environment()
        self._url = url
        self._token = token

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

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The parsed answer. Raises ``DaemonUnreachable``, ``ServerError``."""
        return self._exchange("GET", _target(path, query), None)

    def post(self, path: str, body: Any) -> Any:
        """Send ``body`` as JSON. Raises ``DaemonUnreachable``, ``ServerError``."""
        return self._exchange("POST", path, json.dumps(body).encode())

    def _exchange(self, method: str, target: str, body: bytes | None) -> Any:
        connection, response = self._send(method, target, body, {}, REQUEST_TIMEOUT)
        try:
            answer = json.loads(response.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError) as failure:
            raise DaemonUnreachable(f"The daemon at {self.where} broke off: {failure}.") from failure
        finally:
            connection.close()
        return answer

    def _send(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection(timeout)
        sent = dict(headers)
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self._token and self._url:
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, target, body, sent)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as failure:
            connection.close()
            raise DaemonUnreachable(f"No daemon answers on {self.where}.") from failure
        if response.status >= 400:
            raise _refusal(connection, response)
        return connection, response

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._url is None:
            return _UnixConnection(str(self._home.socket), timeout)
        parts = urlsplit(self._url)
        host = parts.hostname or "127.0.0.1"
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, parts.port or 443, timeout=timeout)
        port = parts.port or 80
        if self._token:
            _insist_on_own_listener(host, port)
        return http.client.HTTPConnection(host, port, timeout=timeout)

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


def _target(path: str, query: Mapping[str, Any] | None) -> str:
    given = {key: value for key, value in (query or {}).items() if value is not None and value != ()}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _refusal(connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> ServerError:
    try:
        body = json.loads(response.read())
        error = body["error"] if isinstance(body, dict) else {}
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        error = {"message": f"The server answered {response.status} {response.reason}."}
    finally:
        connection.close()
    return ServerError(response.status, error)


def _messages(response: http.client.HTTPResponse) -> Iterator[Message]:
    """Parse an event stream (WHATWG HTML, server-sent events): fields a line, an empty line ends a message."""
    event, data, last_id, seen_id = "", [], None, False
    while line := response.readline():
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


def _insist_on_own_listener(host: str, port: int) -> None:
    """Refuse to send a token to a listener on this machine that belongs to another user."""
    from claude_loop.transports.peer import listener_is_ours  # noqa: PLC0415 - only where a token goes over TCP

    if listener_is_ours(host, port) is False:
        raise Forbidden(
            f"The server on {host}:{port} belongs to another user; the token was not sent.",
            hint="Stop that server, or set CLAUDE_LOOP_URL to another port.",
        )


def token_from_file(path: Path) -> str:
    """The token in ``path``. Raises ``OSError``."""
    return path.read_text(encoding="ascii").strip()
