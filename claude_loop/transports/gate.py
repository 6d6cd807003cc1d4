"""The gate: one middleware before everything else, Socket.IO included.

It refuses requests that a foreign web page may have started, finds out who is calling, and lets through what that
caller may do. A route says what it needs in the table given to the gate; a route missing there keeps the server from
starting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import hdrs, web
from multidict import CIMultiDict

from claude_loop.errors import (
    ClaudeLoopError,
    Forbidden,
    HostRefused,
    MethodNotAllowed,
    OriginRefused,
    RequestTimeout,
    SettingsRefused,
    TooLarge,
    Unauthorized,
)
from claude_loop.settings import Settings
from claude_loop.transports import request_checks as checks
from claude_loop.transports.auth import ANONYMOUS, Authenticator, Principal, Scope
from claude_loop.transports.connection import peer_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Access:
    """What a route needs. ``page``: a link elsewhere may open it, because it holds no data."""

    scope: Scope | None = None
    page: bool = False
    engineio: bool = False


PUBLIC = Access()
PAGE = Access(page=True)
EMIT = Access("emit")
READ = Access("read")
CONTROL = Access("control")
ADMIN = Access("admin")
# Open to strangers as far as the handshake: a Socket.IO client may bring its token only after it, in `auth`.
ENGINE_IO = Access(engineio=True)

PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)

_READING = frozenset({"GET", "HEAD"})
_WRITING = frozenset({"POST", "DELETE"})
_NOTHING_KNOWN = Access("admin")


def principal_of(request: web.BaseRequest) -> Principal:
    """Who is calling; anonymous where the gate has not been."""
    principal: Principal = request.get(PRINCIPAL, ANONYMOUS)
    return principal


class Gate:
    """Checks every request of one application.

    ``access`` maps ``"METHOD /pattern"`` (aiohttp's canonical pattern; GET stands for HEAD too) to what it needs.
    ``handshake_principal`` finds who opened an Engine.IO session, None when there is no such session; its owner forgets
    sessions as they end, so the gate keeps nothing. ``on_refusal`` hears the code of every refusal, to be counted.
    ``token_hint`` is the line a caller on this machine is shown when it needs the token.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        settings: Settings,
        access: Mapping[str, Access],
        *,
        handshake_principal: Callable[[str], Principal | None] = lambda _sid: None,
        on_refusal: Callable[[str], None] = lambda _code: None,
        token_hint: str | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._access = dict(access)
        self._handshake_principal = handshake_principal
        self._on_refusal = on_refusal
        self._token_hint = token_hint
        self._behind_proxy = settings.insecure_behind_proxy
        self._body_bytes = settings.limits.body_bytes
        self._stranger_seconds = settings.limits.handshake_seconds
        self._hosts = checks.allowed_hosts((*settings.allowed_hosts, *_bound_name(settings.host)))
        self._origins = checks.allowed_origins(settings.allowed_origins)

    def install(self, app: web.Application) -> None:
        """Put the gate before everything of ``app``. Call it before the application starts."""
        app.middlewares.insert(0, self.middleware)
        app.on_response_prepare.append(self.add_headers)
        app.on_startup.append(self.insist_on_complete_table)

    async def insist_on_complete_table(self, app: web.Application) -> None:
        """Raises ``SettingsRefused`` if a route does not say what it needs."""
        for route in app.router.routes():
            name = f"{route.method} {route.resource.canonical if route.resource is not None else ''}"
            if route.method != "OPTIONS" and self._look_up(name) is None:
                raise SettingsRefused(f"The route {name} does not say what it needs.")

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            request = self._admit(request)
            if request.method == "OPTIONS":
                return _preflight(request)
            return await self._handle(request, handler)
        except ClaudeLoopError as error:
            if error.status < 500:
                self._on_refusal(error.code)
            return error_response(error)

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and not principal_of(request).known:
            # A stranger's body arrives within the time of a handshake: readers of bodies have no limit of their own.
            try:
                async with asyncio.timeout(self._stranger_seconds):
                    return await handler(request)
            except TimeoutError:
                raise RequestTimeout(f"The request took longer than {self._stranger_seconds:g} s.") from None
        return await handler(request)

    def _admit(self, request: web.Request) -> web.Request:
        access = self._access_of(request)
        forwarded = checks.forwarded(request.headers)
        self._check_source(request, access)
        if request.method == "OPTIONS":
            return request
        sid = checks.engineio_sid(request.query_string) if access.engineio else None
        opener = None if sid is None else self._handshake_principal(sid)
        self._check_method(request, polling=opener is not None)
        peer = peer_of(request)
        principal = self._authenticator.resolve(peer, request.headers.get(hdrs.AUTHORIZATION), forwarded=forwarded)
        if access.scope is not None and not principal.may(access.scope):
            raise _lacks(principal, access.scope, self._token_hint if peer.via == "loopback" else None)
        if opener is not None and opener != principal:
            raise Forbidden("This Socket.IO session was opened by another caller.", hint="Open a new connection.")
        if forwarded and not self._behind_proxy:
            request = _without_forwarded(request)
        request[PRINCIPAL] = principal
        return request

    def _access_of(self, request: web.Request) -> Access:
        resource = request.match_info.route.resource
        if resource is None:
            return PUBLIC  # no such route, or not this method: the answer will say so
        method = "GET" if request.method == "HEAD" else request.method
        return self._look_up(f"{method} {resource.canonical}") or _NOTHING_KNOWN

    def _look_up(self, name: str) -> Access | None:
        return self._access.get(name.replace("HEAD ", "GET ", 1))

    def _check_source(self, request: web.Request, access: Access) -> None:
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        if peer_of(request).via != "unix":
            checks.check_host(headers.getall(hdrs.HOST, []), self._hosts, _own_address(request))
        if checks.check_origin(headers.getall(hdrs.ORIGIN, []), self._scheme(request), host, self._origins):
            return
        opens_page = (
            access.page
            and request.method in _READING
            and headers.get("Sec-Fetch-Mode") == "navigate"
            and headers.get("Sec-Fetch-Dest") == "document"
        )
        checks.check_fetch_site(headers.get("Sec-Fetch-Site"), opens_page=opens_page)

    def _scheme(self, request: web.Request) -> str:
        if self._behind_proxy:
            said = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower()
            if said in {"http", "https"}:
                return said
        return request.scheme

    def _check_method(self, request: web.Request, *, polling: bool) -> None:
        if request.method in _READING or request.match_info.http_exception is not None:
            return  # where there is no such address, or not with this method, the answer says so, and no body is read
        if request.method not in _WRITING:
            raise MethodNotAllowed(f"The method {request.method[:20]!r} is not used here.")
        if request.content_length is not None and request.content_length > self._body_bytes:
            raise TooLarge(f"The body has {request.content_length} bytes; at most {self._body_bytes} are taken.")
        if request.method == "POST" or request.can_read_body:
            checks.check_media_type(request.headers.get(hdrs.CONTENT_TYPE), request.content_type, polling=polling)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """The headers of every answer: nobody frames, sniffs or caches it, and pages run only what we serve."""
        headers = response.headers
        headers[hdrs.SERVER] = "claude-loop"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        page = response.content_type == "text/html"
        headers["Content-Security-Policy"] = _page_policy(request) if page else _DATA_POLICY
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        origin = request.headers.get(hdrs.ORIGIN)
        if self._origins:
            headers.add(hdrs.VARY, hdrs.ORIGIN)
            if origin is not None and checks.canonical_origin(origin) in self._origins:
                headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin


_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"


def _page_policy(request: web.Request) -> str:
    # Some browsers do not count ws: as 'self'. The host has passed the gate, or the page would not be served.
    scheme, host = ("wss" if request.secure else "ws"), request.headers.get(hdrs.HOST, "")
    sockets = f" {scheme}://{host}" if host else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"connect-src 'self'{sockets}; img-src 'self' data:; font-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def error_response(error: ClaudeLoopError) -> web.Response:
    """``{"error": {...}}`` with the error's status."""
    response = web.json_response({"error": error.as_dict()}, status=error.status)
    if isinstance(error, Unauthorized):
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if isinstance(error, HostRefused | OriginRefused):
        response.force_close()
    return response


def _lacks(principal: Principal, scope: Scope, token_hint: str | None) -> ClaudeLoopError:
    if not principal.known:
        return Unauthorized(f"This needs the right to {scope}, and nothing says who is calling.", hint=token_hint)
    # Whoever made a token for one thing may want one for this as well.
    named = f", `claude-loop token create --scope {scope}` this one" if scope != "admin" else ""
    return Forbidden(
        f"A caller known by {principal.kind} has no right to {scope}.",
        hint=f"The Unix socket and the token file give every right{named}; docs/security.md has the table.",
    )


def _preflight(request: web.Request) -> web.Response:
    """The answer to a browser that asks before it calls; only allowed origins come this far with a question."""
    if hdrs.ORIGIN not in request.headers or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
        raise MethodNotAllowed("OPTIONS is answered only to a browser's preflight.")
    headers: dict[str, str] = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, DELETE",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, Last-Event-ID",
        hdrs.ACCESS_CONTROL_MAX_AGE: "600",
    }
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)


def _without_forwarded(request: web.Request) -> web.Request:
    kept = [(name, value) for name, value in request.headers.items() if not checks.forwarded([name])]
    return request.clone(headers=CIMultiDict(kept))


def _own_address(request: web.Request) -> str:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    address = name[0] if isinstance(name, tuple) else ""
    return address.removeprefix("::ffff:")


def _bound_name(host: str) -> tuple[str, ...]:
    """The name or address the server is bound to, unless it stands for all addresses."""
    name = host.partition("%")[0]
    return () if name in {"", "0.0.0.0", "::"} else (name,)  # noqa: S104 - a comparison
