"""Browser sessions: ``claude-loop open`` gets a one-time code, the page trades it for a token of its own.

Everything lives in memory: a restart of the daemon ends every session. Only digests are kept, so that neither a heap
dump nor the time a lookup takes helps anybody to a token.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections import OrderedDict, deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
from aiohttp import web

from claude_loop.clock import Clock
from claude_loop.errors import InvalidJson, InvalidRequest, RateLimited, TooLarge, Unauthorized
from claude_loop.transports.auth import READ_AND_CONTROL, Principal
from claude_loop.transports.connection import peer_of
from claude_loop.transports.gate import ADMIN, PUBLIC, principal_of
from claude_loop.transports.peer import Peer

CODE_SECONDS = 60.0
SESSION_SECONDS = 12 * 3600.0  # since the last use
_CODE_BYTES = 18
_TOKEN_BYTES = 32
_MAX_CODES = 16
_MAX_SESSIONS = 64
_WRONG_CODES = 10  # within a minute, for each way in and user: nobody shuts out another
_WRONG_SECONDS = 60.0
_BODY_BYTES = 1024
_BODY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Code:
    expires: float
    any_user: bool


@dataclass(slots=True)
class _Session:
    principal: Principal
    expires: float


class Sessions:
    """One-time codes and the sessions opened with them; both bounded, the oldest give way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uid = os.geteuid()
        self._codes: OrderedDict[bytes, _Code] = OrderedDict()
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._wrong: dict[tuple[str, int | None], deque[float]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def new_code(self, *, any_user: bool = False) -> str:
        """A code for one exchange within a minute.

        A link handed to a browser passes through its command line, which every user of the machine can read: such a
        code is only good for a connection of our own user (or of root, who could read the token anyway). ``any_user``
        is for a link that a person carries to another place.
        """
        code = self._secret(_CODE_BYTES)
        self._codes[_digest(code)] = _Code(self._clock.monotonic() + CODE_SECONDS, any_user)
        while len(self._codes) > _MAX_CODES:
            self._codes.popitem(last=False)
        return code

    def redeem(self, code: str, peer: Peer) -> str:
        """A session token for ``code``, which is used up by this. Raises ``Unauthorized`` or ``RateLimited``."""
        now = self._clock.monotonic()
        wrong = self._wrong.setdefault((peer.via, peer.uid), deque(maxlen=_WRONG_CODES))
        if len(wrong) == _WRONG_CODES and now - wrong[0] < _WRONG_SECONDS:
            raise RateLimited("Too many wrong codes.", hint="Wait a minute, then run `claude-loop open` again.")
        known = self._codes.pop(_digest(code), None)
        if known is None or known.expires <= now:
            wrong.append(now)
            raise Unauthorized(
                "This code is wrong, used or older than a minute.", hint="Run `claude-loop open` for a new one."
            )
        if not known.any_user and peer.via != "network" and peer.uid not in {None, self._uid, 0}:
            wrong.append(now)
            raise Unauthorized(
                "This code is for another user of this machine.",
                hint="`claude-loop open --print-url` makes a link that any user may open.",
            )
        return self._open(now)

    def _open(self, now: float) -> str:
        token = self._secret(_TOKEN_BYTES)
        digest = _digest(token)
        name = digest.hex()[:8]
        self._sessions[digest] = _Session(Principal("browser", READ_AND_CONTROL, name), now + SESSION_SECONDS)
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def principal_of(self, token: str) -> Principal | None:
        """The principal of a live session, whose time starts anew; None for anything else."""
        digest = _digest(token)
        session = self._sessions.get(digest)
        if session is None:
            return None
        now = self._clock.monotonic()
        if session.expires <= now:
            del self._sessions[digest]
            return None
        session.expires = now + SESSION_SECONDS
        self._sessions.move_to_end(digest)
        return session.principal

    def end(self, token: str) -> None:
        """Close the session of ``token``, if there is one."""
        self._sessions.pop(_digest(token), None)

    def _secret(self, size: int) -> str:
        return base64.urlsafe_b64encode(self._clock.random_bytes(size)).rstrip(b"=").decode()


class SessionRoutes:
    """``POST /api/session/code``, and ``POST``, ``GET`` and ``DELETE /api/session``."""

    ACCESS = MappingProxyType(
        {
            "POST /api/session/code": ADMIN,
            "POST /api/session": PUBLIC,  # the code is the credential
            "GET /api/session": PUBLIC,
            "DELETE /api/session": PUBLIC,
        }
    )

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/api/session/code", self.new_code)
        app.router.add_post("/api/session", self.open)
        app.router.add_get("/api/session", self.show)
        app.router.add_delete("/api/session", self.close)

    async def new_code(self, request: web.Request) -> web.Response:
        """``{"any_user"?: bool}`` → ``{"code", "expires_in"}``, the latter in seconds."""
        asked = await _small_object(request)
        any_user = asked.get("any_user", False)
        if not isinstance(any_user, bool):
            raise InvalidRequest("`any_user` is true or false.", field="any_user")
        return web.json_response({"code": self._sessions.new_code(any_user=any_user), "expires_in": CODE_SECONDS})

    async def open(self, request: web.Request) -> web.Response:
        """``{"code"}`` → ``{"token", "scopes", "expires_in"}``; send the token as bearer or in Socket.IO's ``auth``."""
        code = (await _small_object(request)).get("code")
        if not isinstance(code, str):
            raise InvalidRequest("`code` is missing or no string.", field="code")
        token = self._sessions.redeem(code, peer_of(request))
        return web.json_response({"token": token, "scopes": sorted(READ_AND_CONTROL), "expires_in": SESSION_SECONDS})

    async def show(self, request: web.Request) -> web.Response:
        """What the caller counts for: ``{"kind", "scopes"}``."""
        principal = principal_of(request)
        return web.json_response({"kind": principal.kind, "scopes": sorted(principal.scopes)})

    async def close(self, request: web.Request) -> web.Response:
        """End the session whose token the request carries."""
        if principal_of(request).kind != "browser":
            raise InvalidRequest("Only a browser session can be ended.")
        self._sessions.end(request.headers["Authorization"].partition(" ")[2].strip())
        return web.json_response({"ok": True})


async def _small_object(request: web.Request) -> dict[str, Any]:
    """The request's body, a JSON object of at most 1 KiB that arrives within seconds: these routes serve strangers."""
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > _BODY_BYTES:
                    raise TooLarge(f"This route takes at most {_BODY_BYTES} bytes.", hint="Send the JSON object alone.")
    except TimeoutError:
        raise InvalidRequest("The body did not arrive in time.") from None
    try:
        value = orjson.loads(body or b"{}")
    except ValueError:
        raise InvalidJson("The body is not JSON.", hint="Send one JSON object.") from None
    if not isinstance(value, dict):
        raise InvalidJson("The body is not a JSON object.", hint="Send one JSON object.")
    return value


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
