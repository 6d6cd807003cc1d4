"""A real aiohttp server behind the gate, with routes that note who got through; and raw requests to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from claude_loop.clock import SystemClock
from claude_loop.settings import load_settings
from claude_loop.transports.auth import Authenticator, Principal
from claude_loop.transports.gate import CONTROL, EMIT, ENGINE_IO, PAGE, PUBLIC, READ, Gate, principal_of
from claude_loop.transports.listeners import Listeners
from claude_loop.transports.sessions import SessionRoutes, Sessions

TOKEN = "clt_" + "t" * 43
SECRET = "what the events say"
PAGE_HTML = "<!doctype html><title>page</title><script src=/app.js></script><script>window.inline = true</script>"

ACCESS = {
    "GET /": PAGE,
    "GET /app.js": PUBLIC,
    "GET /prd/{id}": PAGE,
    "GET /health": PUBLIC,
    "GET /api/events": READ,
    "POST /api/events": EMIT,
    "DELETE /api/events": CONTROL,
    "POST /api/control": CONTROL,
    "GET /api/events/stream": READ,
    "GET /headers": PUBLIC,
    "GET /fail": PUBLIC,
    "POST /stranger": PUBLIC,
    "PUT /odd": PUBLIC,
    "PATCH /odd": PUBLIC,
    **SessionRoutes.ACCESS,
}
ENGINE_ACCESS = {"GET /socket.io/": ENGINE_IO, "POST /socket.io/": ENGINE_IO}


@dataclass
class Guarded:
    """The running server. ``hits`` are the handlers that ran, with the caller they saw."""

    listeners: Listeners
    gate: Gate
    sessions: Sessions
    script: str = ""
    hits: list[tuple[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.listeners.port

    @property
    def url(self) -> str:
        return self.listeners.url

    @property
    def data_hits(self) -> list[tuple[str, str]]:
        return [hit for hit in self.hits if hit[0].startswith(("GET /api", "POST", "DELETE"))]

    def note(self, request: web.Request) -> str:
        kind = principal_of(request).kind
        self.hits.append((f"{request.method} {request.path}", kind))
        return kind

    async def data(self, request: web.Request) -> web.Response:
        if request.body_exists:
            await request.read()
        return web.json_response({"secret": SECRET, "kind": self.note(request)})

    async def page(self, request: web.Request) -> web.Response:
        self.note(request)
        return web.Response(text=PAGE_HTML, content_type="text/html")

    async def app_js(self, request: web.Request) -> web.Response:
        return web.Response(text=self.script, content_type="text/javascript")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        self.note(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {SECRET}\n\n".encode())
        return response

    async def headers(self, request: web.Request) -> web.Response:
        return web.json_response({name.lower(): value for name, value in request.headers.items()})

    async def fail(self, request: web.Request) -> web.Response:
        raise RuntimeError("a secret detail")


@asynccontextmanager
async def guarded(
    *,
    unix_socket: Path | None = None,
    engine: Any = None,
    handshake_principal: Callable[[str], Principal | None] | None = None,
    token_hint: str | None = None,
    inherited: Any = (),
    **settings: Any,
) -> AsyncIterator[Guarded]:
    """The server on a free port. ``engine`` is an Engine.IO or Socket.IO server to attach; the rest are settings."""
    chosen = load_settings(**{"port": 0, **settings})
    sessions = Sessions(SystemClock())
    authenticator = Authenticator(
        TOKEN,
        session_of=sessions.principal_of,
        loopback=chosen.auth.loopback,
        behind_proxy=chosen.insecure_behind_proxy,
    )
    app = web.Application(client_max_size=chosen.limits.body_bytes)
    refused: list[str] = []
    gate = Gate(
        authenticator,
        chosen,
        {**ACCESS, **(ENGINE_ACCESS if engine is not None else {})},
        handshake_principal=handshake_principal or (lambda _sid: None),
        on_refusal=refused.append,
        token_hint=token_hint,
    )
    gate.install(app)
    listeners = Listeners(chosen)
    server = Guarded(listeners, gate, sessions, refused=refused)
    SessionRoutes(sessions).add_to(app)
    app.router.add_get("/", server.page)
    app.router.add_get("/prd/{id}", server.page)
    app.router.add_get("/app.js", server.app_js)
    app.router.add_get("/health", server.data)
    app.router.add_get("/api/events", server.data)
    app.router.add_post("/api/events", server.data)
    app.router.add_delete("/api/events", server.data)
    app.router.add_post("/api/control", server.data)
    app.router.add_get("/api/events/stream", server.stream)
    app.router.add_get("/headers", server.headers)
    app.router.add_get("/fail", server.fail)
    app.router.add_post("/stranger", server.data)
    app.router.add_put("/odd", server.data)
    app.router.add_patch("/odd", server.data)
    if engine is not None:
        engine.attach(app)
    listeners.bind(unix_socket=unix_socket, inherited=inherited)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    try:
        await runner.setup()
        assert runner.server is not None
        await listeners.serve(runner.server)
        yield server
    finally:
        listeners.close()
        await runner.cleanup()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error's code; None for an answer that is no error."""
        value = self.json
        return value["error"]["code"] if isinstance(value, dict) and "error" in value else None


async def ask(
    server: Guarded,
    method: str = "GET",
    path: str = "/api/events",
    *,
    headers: dict[str, str] | None = None,
    body: bytes | str | None = None,
    unix: Path | None = None,
    address: str = "127.0.0.1",
) -> Answer:
    """One request with exactly these headers, besides ``Host`` where none is given; ``""`` leaves a header out."""
    if body is not None and isinstance(body, str):
        body = body.encode()
    sent = {"Host": f"127.0.0.1:{server.port}", "Connection": "close", **(headers or {})}
    if body is not None:
        sent.setdefault("Content-Length", str(len(body)))
        sent.setdefault("Content-Type", "application/json")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
    if unix is not None:
        reader, writer = await asyncio.open_unix_connection(str(unix))
    else:
        reader, writer = await asyncio.open_connection(address, server.port)
    try:
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        return await read_answer(reader, bodyless=method == "HEAD")
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader, *, bodyless: bool = False) -> Answer:
    """One answer; without a length, all until the connection ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if bodyless or status.split()[1] in {"101", "204"}:
        return Answer(int(status.split()[1]), headers, b"")
    length = headers.get("content-length")
    body = await reader.read() if length is None else await reader.readexactly(int(length))
    return Answer(int(status.split()[1]), headers, body)
