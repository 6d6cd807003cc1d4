"""Who a caller is and what it may do.

A caller is known by a bearer token (the daemon's own, a named one, or a browser session's), by the Unix socket it came
through, or as a loopback connection of the daemon's own user. Everybody else is anonymous and may only see what is
public.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claude_loop.errors import Unauthorized
from claude_loop.transports.peer import Peer, can_tell_users_apart

Scope = Literal["emit", "read", "control", "admin"]
LoopbackTrust = Literal["own-uid", "token", "open"]
Kind = Literal["token", "socket", "loopback", "open", "browser", "anonymous"]

EVERYTHING: frozenset[Scope] = frozenset({"emit", "read", "control", "admin"})
# Never control or admin: a sandboxed agent runs as the same user and must not approve its own commands.
EMIT_AND_READ: frozenset[Scope] = frozenset({"emit", "read"})
# A person at the monitor watches and decides; events are emitted by what they tell of.
READ_AND_CONTROL: frozenset[Scope] = frozenset({"read", "control"})


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. ``name`` tells two of one kind apart, and is fit for a log."""

    kind: Kind
    scopes: frozenset[Scope] = frozenset()
    name: str = ""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes

    @property
    def known(self) -> bool:
        return self.kind != "anonymous"


TOKEN = Principal("token", EVERYTHING)
SOCKET = Principal("socket", EVERYTHING)
LOOPBACK = Principal("loopback", EMIT_AND_READ)
OPEN = Principal("open", EMIT_AND_READ)
ANONYMOUS = Principal("anonymous")


class Authenticator:
    """Tells who a caller is.

    ``session_of`` finds the principal of a browser session's token, ``named_of`` that of a named one, and ``is_void``
    says of whom either knew that it is nobody any more. ``loopback`` is the setting ``auth.loopback``; ``behind_proxy``
    turns trust in loopback off, because every request then arrives from the proxy's address.
    """

    def __init__(
        self,
        token: str,
        *,
        session_of: Callable[[str], Principal | None],
        named_of: Callable[[str], Principal | None] = lambda _token: None,
        is_void: Callable[[Principal], bool] = lambda _principal: False,
        loopback: LoopbackTrust = "own-uid",
        behind_proxy: bool = False,
    ) -> None:
        self._digest = _digest(token)
        self._session_of = session_of
        self._named_of = named_of
        self._is_void = is_void
        self._loopback: LoopbackTrust = "token" if behind_proxy else loopback
        self._uid = os.geteuid()

    def resolve(self, peer: Peer, authorization: str | None, *, forwarded: bool = False) -> Principal:
        """The caller behind one request.

        ``authorization`` is the request's header, ``forwarded`` whether it shows that another machine may stand behind
        the connection. Raises ``Unauthorized`` for a bearer token that is not, or no longer, one of ours: falling
        back to less would hide the mistake.
        """
        if authorization is not None:
            scheme, _, credentials = authorization.partition(" ")
            if scheme.lower() == "bearer":
                return self._believe(credentials.strip())
        return self._by_connection(peer, forwarded=forwarded)

    def from_socketio_auth(self, auth: object, request_principal: Principal) -> Principal | None:
        """The caller behind a Socket.IO connect, whose ``auth`` object may carry ``{"token": ...}``; None to refuse.

        Without a token the connection counts for what its request counted for; a wrong token is refused.
        """
        if isinstance(auth, dict) and "token" in auth:
            token = auth["token"]
            try:
                return self._believe(token) if isinstance(token, str) else None
            except Unauthorized:
                return None
        # A session opened by a token that was revoked meanwhile may still ask to connect anew.
        return request_principal if request_principal.known and not self._is_void(request_principal) else None

    def _believe(self, token: str) -> Principal:
        # Digests are compared: the time taken then tells nothing about the token, its length included.
        if hmac.compare_digest(_digest(token), self._digest):
            return TOKEN
        found = self._named_of(token) or self._session_of(token)
        if found is None:
            raise Unauthorized("This token is not, or no longer, valid.")
        return found

    def _by_connection(self, peer: Peer, *, forwarded: bool) -> Principal:
        if peer.via == "unix":
            # Root may read every file of ours anyway. Where the peer's uid cannot be asked, the socket's mode decides.
            return SOCKET if peer.uid in {None, self._uid, 0} else ANONYMOUS
        if peer.via != "loopback" or forwarded:
            return ANONYMOUS
        if self._loopback == "open":
            return OPEN
        if self._loopback == "own-uid" and peer.uid == self._uid:
            return LOOPBACK
        return ANONYMOUS


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def asks_for_users(*, behind_proxy: bool) -> bool:
    """Whether the kernel is asked whose an accepted connection is. Behind a proxy all of them are the proxy's."""
    return not behind_proxy and can_tell_users_apart()


def needs_token(loopback: LoopbackTrust, *, behind_proxy: bool) -> bool:
    """Whether plain clients on this machine need the token, so that the way to send it should be shown."""
    return behind_proxy or loopback == "token" or (loopback == "own-uid" and not can_tell_users_apart())


def how_to_authenticate(url: str, token_file: Path) -> str:
    """The line to type where a token is needed, as on macOS, which cannot tell whose a connection is.

    It keeps the token out of curl's command line, which every user of the machine can read.
    """
    header = f"printf 'Authorization: Bearer %s' \"$(cat {shlex.quote(str(token_file))})\""
    return f"{header} | curl -H @- {shlex.quote(url)}"
