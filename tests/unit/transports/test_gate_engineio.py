"""What Engine.IO lets through by itself, and that the gate stands before it."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import socketio
from aiohttp import web

from claude_loop.transports.auth import Authenticator, Principal
from claude_loop.transports.gate import principal_of
from tests.guarded_server import TOKEN, Answer, Guarded, ask, guarded
from tests.support import eventually

HANDSHAKE = "/socket.io/?EIO=4&transport=polling"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class SocketServer:
    """A Socket.IO server behind the gate; ``principals`` are those its connect handler saw."""

    sio: socketio.AsyncServer
    server: Guarded
    principals: list[Principal | None] = field(default_factory=list)

    @property
    def sessions(self) -> int:
        return len(self.sio.eio.sockets)

    async def handshake(self, headers: dict[str, str] | None = None) -> str:
        answer = await ask(self.server, path=HANDSHAKE, headers=headers)
        assert answer.status == 200, answer.body
        return answer.body.decode().split('"sid":"')[1].split('"')[0]

    async def with_sid(self, sid: str, method: str = "GET", **extra: Any) -> Answer:
        return await ask(self.server, method, f"{HANDSHAKE}&sid={sid}", **extra)


@asynccontextmanager
async def socket_server(**settings: Any) -> AsyncIterator[SocketServer]:
    sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins=[])

    def opener(sid: str) -> Principal | None:
        environ = sio.environ.get(sid)
        return None if environ is None else principal_of(environ["aiohttp.request"])

    authenticator = Authenticator(TOKEN, session_of=lambda _: None)
    async with guarded(engine=sio, handshake_principal=opener, **settings) as server:
        running = SocketServer(sio, server)

        async def connect(sid: str, environ: dict[str, Any], auth: object = None) -> None:
            principal = authenticator.from_socketio_auth(auth, principal_of(environ["aiohttp.request"]))
            running.principals.append(principal)
            if principal is None:
                raise socketio.exceptions.ConnectionRefusedError("unauthorized")

        sio.on("connect", connect)
        yield running
        await sio.shutdown()


@asynccontextmanager
async def bare_engine(**options: Any) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Engine.IO as it comes: the address of its server, and the environ of each accepted handshake."""
    engine = socketio.AsyncServer(async_mode="aiohttp", **options).eio
    accepted: list[dict[str, Any]] = []
    engine.on("connect", lambda _sid, environ: accepted.append(environ))
    app = web.Application()
    engine.attach(app, "socket.io")
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site.port}{HANDSHAKE}", accepted
    finally:
        await engine.shutdown()
        await runner.cleanup()


FOREIGN = {"Origin": "http://evil.test"}
REBOUND = {"Host": "evil.test:18790", "Origin": "http://evil.test:18790"}


@pytest.mark.parametrize(("options", "headers"), [({"cors_allowed_origins": []}, FOREIGN), ({}, REBOUND)])
async def test_engineio_by_itself_lets_foreign_pages_in(options: dict[str, Any], headers: dict[str, str]) -> None:
    """The reason for the gate. If this fails, Engine.IO has changed, and the gate is still right."""
    async with bare_engine(**options) as (url, accepted), aiohttp.ClientSession() as client:
        async with client.get(url, headers=headers) as answer:
            assert answer.status == 200
        assert len(accepted) == 1


@pytest.mark.parametrize("headers", [FOREIGN, REBOUND, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
@pytest.mark.parametrize("upgrade", [False, True])
async def test_the_gate_keeps_them_out(headers: dict[str, str], upgrade: bool) -> None:
    async with socket_server() as running:
        path = "/socket.io/?EIO=4&transport=websocket" if upgrade else HANDSHAKE
        answer = await ask(running.server, path=path, headers={**(UPGRADE if upgrade else {}), **headers, **BEARER})
        assert answer.status in {403, 421}
        assert running.sessions == 0


async def test_engineio_hard_codes_the_remote_address() -> None:
    """So a caller's address comes from the request, and who is behind it from the connection."""
    async with bare_engine() as (url, accepted), aiohttp.ClientSession() as client:
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
        async with aiohttp.ClientSession(connector=connector) as elsewhere, elsewhere.get(url) as answer:
            assert answer.status == 200
        assert accepted[0]["REMOTE_ADDR"] == "127.0.0.1"
        assert accepted[0]["aiohttp.request"].remote == "127.0.0.9"
        assert not client.closed


async def test_a_plain_client_of_our_own_user_needs_no_configuration() -> None:
    async with socket_server() as running:
        client = socketio.AsyncClient()
        await client.connect(running.server.url)
        await eventually(lambda: client.eio.current_transport == "websocket", what="the upgrade")
        assert [p.kind for p in running.principals if p] == ["loopback"]
        await client.disconnect()


async def test_a_stranger_may_shake_hands_but_not_connect() -> None:
    async with socket_server(auth={"loopback": "token"}) as running:
        client = socketio.AsyncClient()
        with pytest.raises(socketio.exceptions.ConnectionError):
            await client.connect(running.server.url, auth={"token": TOKEN[:-1]})
        with pytest.raises(socketio.exceptions.ConnectionError):
            await client.connect(running.server.url)
        await client.connect(running.server.url, auth={"token": TOKEN})
        await eventually(lambda: client.eio.current_transport == "websocket", what="the upgrade")
        assert [p and p.kind for p in running.principals] == [None, None, "token"]
        await client.disconnect()


async def test_a_token_in_the_header_counts_as_well() -> None:
    async with socket_server(auth={"loopback": "token"}) as running:
        client = socketio.AsyncClient()
        await client.connect(running.server.url, headers=BEARER)
        await eventually(lambda: client.eio.current_transport == "websocket", what="the upgrade")
        assert [p and p.kind for p in running.principals] == ["token"]
        await client.disconnect()


async def test_a_websocket_passes_though_its_forwarded_headers_are_stripped() -> None:
    async with socket_server() as running:
        client = socketio.AsyncClient()
        headers = {**BEARER, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.test"}
        await client.connect(running.server.url, headers=headers, transports=["websocket"])
        environ = next(iter(running.sio.environ.values()))
        assert environ["wsgi.url_scheme"] == "http"
        assert not [name for name in environ if "FORWARDED" in name]
        assert [p and p.kind for p in running.principals] == ["token"]
        await client.disconnect()


@pytest.mark.parametrize("method", ["GET", "POST", "upgrade"])
async def test_a_session_is_its_openers_alone(method: str) -> None:
    async with socket_server() as running:
        ours = await running.handshake()
        tokens = await running.handshake(BEARER)
        for sid, headers in ((ours, BEARER), (tokens, {}), (ours, {"Via": "1.1 proxy"})):
            if method == "upgrade":
                path = f"/socket.io/?EIO=4&transport=websocket&sid={sid}"
                answer = await ask(running.server, path=path, headers={**UPGRADE, **headers})
            else:
                body = "40" if method == "POST" else None
                answer = await running.with_sid(
                    sid, method, body=body, headers={"Content-Type": "text/plain", **headers}
                )
            assert (answer.status, answer.code) == (403, "forbidden")
        assert (await running.with_sid(ours, "POST", body="40", headers={"Content-Type": "text/plain"})).body == b"OK"
        upgraded = await ask(running.server, path=f"/socket.io/?EIO=4&transport=websocket&sid={ours}", headers=UPGRADE)
        assert upgraded.status == 101


async def test_text_is_taken_from_a_live_session_alone() -> None:
    async with socket_server() as running:
        text = {"Content-Type": "text/plain;charset=UTF-8"}
        sid = await running.handshake()
        assert (await running.with_sid(sid, "POST", body="40", headers=text)).body == b"OK"
        assert (await running.with_sid("A" * 20, "POST", body="40", headers=text)).code == "unsupported_media_type"
        assert (await ask(running.server, "POST", HANDSHAKE, body="40", headers=text)).code == "unsupported_media_type"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await running.with_sid(sid, "POST", body="40", headers=form)).code == "unsupported_media_type"
        assert (await running.with_sid(sid, "POST", body="1", headers=text)).body == b"OK"  # Engine.IO's "close"
        assert (await running.with_sid(sid, "POST", body="40", headers=text)).code == "unsupported_media_type"


async def test_jsonp_is_refused() -> None:
    async with socket_server() as running:
        assert (await ask(running.server, path=f"{HANDSHAKE}&j=0")).code == "invalid_request"
        assert running.sessions == 0


async def test_no_spelling_of_a_session_slips_past_the_comparison() -> None:
    """The gate reads the query as Engine.IO does: what one sees as a session, so does the other."""
    async with socket_server() as running:
        sid = await running.handshake(BEARER)
        once = "".join(f"%{ord(each):02x}" for each in sid)
        twice = urllib.parse.quote(once)
        for query in (f"sid={sid}", f"sid={once}", f"sid={twice}", f"sid=&sid={sid}", f"%73id={sid}", f"s%69d={once}"):
            answer = await ask(running.server, path=f"{HANDSHAKE}&{query}")
            assert answer.status in {400, 403}, query
            assert b"0{" not in answer.body[:2], "no new session either"
        for query in (f"sid={sid}&sid=x", f"sid=x&sid={sid}"):
            answer = await ask(running.server, path=f"{HANDSHAKE}&{query}")
            assert (answer.status, answer.code) == (400, "invalid_request")


async def test_the_gate_remembers_nothing_of_sessions() -> None:
    async with socket_server() as running:
        before = _size_of(running.server.gate)
        for _ in range(30):
            client = socketio.AsyncClient()
            await client.connect(running.server.url, transports=["websocket"])
            await client.disconnect()
        await eventually(lambda: running.sessions == 0)
        assert _size_of(running.server.gate) == before


def _size_of(gate: object) -> int:
    return sum(len(value) for value in vars(gate).values() if hasattr(value, "__len__"))


async def test_many_clients_at_once() -> None:
    async with socket_server() as running:
        clients = [socketio.AsyncClient() for _ in range(20)]
        await asyncio.gather(*(client.connect(running.server.url) for client in clients))
        await eventually(lambda: all(each.eio.current_transport == "websocket" for each in clients))
        assert {p.kind for p in running.principals if p} == {"loopback"}
        await asyncio.gather(*(client.disconnect() for client in clients))
