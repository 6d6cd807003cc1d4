"""Named tokens and TLS: a real daemon with a certificate of its own, over every way in."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
import socketio

from tests.e2e.daemon import Daemon
from tests.support import PATIENCE, eventually, until

EVENT = {"type": "note.made", "prd_id": "P"}
TRANSPORTS = ["polling", "websocket"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``cert.pem``, which vouches for itself, and ``key.pem`` beside it."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=claude-loop"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *files], cwd=folder, check=True, capture_output=True, timeout=30)
    return folder / "cert.pem"


@pytest.fixture
def daemon(home: Path, certificate: Path) -> Iterator[Daemon]:
    """It speaks TLS, and on loopback too believes only tokens."""
    key = certificate.with_name("key.pem")
    one = Daemon(
        home,
        CLAUDE_LOOP_TLS_CERT=str(certificate),
        CLAUDE_LOOP_TLS_KEY=str(key),
        CLAUDE_LOOP_AUTH__LOOPBACK="token",
    )
    one.url = one.url.replace("http", "https")
    one.start()
    yield one
    one.stop()


def create(daemon: Daemon, *arguments: str) -> str:
    done = daemon.run("token", "create", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@asynccontextmanager
async def session(certificate: Path, token: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Left when its connections are gone: TLS goes on taking leave of the daemon after the session was closed."""
    sockets: list[socket.socket] = []

    def noted(address: aiohttp.AddrInfoType) -> socket.socket:
        sockets.append(one := socket.socket(*address[:3]))
        return one

    context = ssl.create_default_context(cafile=str(certificate))
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(ssl=context, socket_factory=noted)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
        yield client
    await eventually(lambda: all(one.fileno() == -1 for one in sockets))


# What each scope lets one do over HTTP and server-sent events; `forget` stands for control.
ASKED = {
    "read": ("GET", "/api/events"),
    "stream": ("GET", "/api/events/stream"),
    "emit": ("POST", "/api/events"),
    "control": ("POST", "/api/prds/P/archive"),
    "admin": ("POST", "/api/session/code"),
}
MAY = {"read": {"read", "stream"}, "emit": {"emit"}, "control": {"control"}}


@pytest.mark.requires("openssl")
async def test_scopes_over_http_and_streams(daemon, certificate):
    tokens = {scope: create(daemon, "--scope", scope) for scope in MAY}
    event = EVENT | {"project": "proof"}
    bodies = {"emit": event, "control": {"archived": True}}
    assert daemon.run("emit", "note.made", "--prd", "P", "--wait").returncode == 0
    for scope, token in tokens.items():
        for wanted, (method, path) in ASKED.items():
            async with session(certificate, token) as client:
                body = {} if method == "GET" else {"json": bodies.get(wanted, {})}
                async with client.request(method, daemon.url + path, **body) as answer:
                    assert (answer.status == 200) is (wanted in MAY[scope]), (scope, wanted, await answer.text())
                    assert answer.status in {200, 403}
    async with session(certificate) as client, client.get(f"{daemon.url}/api/events") as answer:
        assert answer.status == 401


Told = list[tuple[str, object]]


@asynccontextmanager
async def connected(
    daemon: Daemon, certificate: Path, token: str, transport: str
) -> AsyncIterator[tuple[socketio.AsyncClient, Told]]:
    """A client of python-socketio's own, and what it has been told of: events, errors, and the end."""
    async with session(certificate) as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http, handle_sigint=False)
        told: Told = []
        for name in ("connected", "event", "events", "error"):
            client.on(name, lambda payload, name=name: told.append((name, payload)))
        client.on("disconnect", lambda _reason: told.append(("disconnect", None)))
        await client.connect(daemon.url, auth={"token": token}, transports=[transport])
        await eventually(lambda: any(name == "connected" for name, _ in told))
        yield client, told
        await client.disconnect()


@pytest.mark.requires("openssl")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_scopes_over_socket_io(daemon, certificate, transport):
    asked = {"emit": ("event", EVENT), "read": ("subscribe", {"filter": {}, "from": "now"})}
    for scope in MAY:
        token = create(daemon, "--scope", scope)
        async with connected(daemon, certificate, token, transport) as (client, _):
            for wanted, (name, payload) in asked.items():
                answer = await client.call(name, payload, timeout=30)
                assert ("error" not in answer) is (wanted == scope), (scope, wanted, answer)
            for name in ("watch", "subscribe_prd"):
                answer = await client.call(name, {"prd_id": "P"} if name == "subscribe_prd" else {}, timeout=30)
                assert ("error" not in answer) is (scope == "read"), (scope, name, answer)


@pytest.mark.requires("openssl")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_revoked_token_loses_its_socket_io_connection(daemon, certificate, transport):
    kept, revoked = (create(daemon, "--scope", "read", "--name", name) for name in ("kept", "revoked"))
    async with (
        connected(daemon, certificate, kept, transport) as (_, told_staying),
        connected(daemon, certificate, revoked, transport) as (leaving, told),
    ):
        assert daemon.run("token", "revoke", "revoked").returncode == 0
        await eventually(lambda: ("disconnect", None) in told)
        assert [payload["code"] for name, payload in told if name == "error"] == ["unauthorized"]
        with pytest.raises(socketio.exceptions.ConnectionError):
            await leaving.connect(daemon.url, auth={"token": revoked}, transports=[transport])
        daemon.run("emit", "note.made", "--prd", "P")
        await eventually(lambda: any(name == "event" for name, _ in told_staying))
        assert not any(name == "event" for name, _ in told)


@pytest.mark.requires("openssl")
async def test_a_revoked_token_loses_its_stream_and_an_expired_one_too(daemon, certificate):
    revoked, over = (
        create(daemon, "--scope", "read", "--name", "a"),
        create(daemon, "--scope", "read", "--expires", "3s"),
    )
    for token in (revoked, over):
        async with session(certificate, token) as client:
            async with client.get(f"{daemon.url}/api/events/stream") as stream:
                assert stream.status == 200
                await stream.content.readline()
                if token is revoked:
                    daemon.run("token", "revoke", "a")
                with pytest.raises(aiohttp.ClientError):
                    async with asyncio.timeout(PATIENCE):
                        while await stream.content.readline():
                            pass
                        raise aiohttp.ClientError("ended")
            async with client.get(f"{daemon.url}/api/events") as answer:
                assert answer.status == 401


@pytest.mark.requires("openssl")
def test_the_command_line_as_a_client_of_it(daemon, certificate, tmp_path):
    """From elsewhere, as far as it knows: another home, an address, a token, and the authority that is believed."""
    token = create(daemon, "--scope", "read", "--scope", "emit", "--name", "laptop")
    assert daemon.run("emit", "note.made", "--prd", "P", "--wait").returncode == 0
    there = Daemon(tmp_path / "home", CLAUDE_LOOP_URL=daemon.url, CLAUDE_LOOP_TOKEN=token)
    refused = there.run("tail", "--no-follow")
    assert refused.returncode == 3
    assert "SSL_CERT_FILE" in refused.stderr
    there.environ["SSL_CERT_FILE"] = str(certificate)
    assert [json.loads(line)["type"] for line in there.run("tail", "--no-follow", "--json").stdout.splitlines()] == [
        "note.made"
    ]
    assert there.run("emit", "note.made", "--prd", "P").returncode == 0
    assert there.run("prds").returncode == 0
    assert there.run("archive", "P", "--yes").returncode == 4
    daemon.run("token", "revoke", "laptop")
    refused = there.run("prds")
    assert refused.returncode == 4
    assert "claude-loop token create" in refused.stderr
    assert not (tmp_path / "home" / "tokens.json").exists()


@pytest.mark.requires("openssl")
def test_it_stands_nowhere_but_where_it_was_shown(daemon):
    token = create(daemon, "--scope", "read", "--name", "once", "--expires", "30d")
    listed = daemon.run("token", "list", "--json")
    (one,) = json.loads(listed.stdout)["tokens"]
    assert (one["name"], one["scopes"], one["over"]) == ("once", ["read"], False)
    daemon.run("prds")
    daemon.stop()
    secret = token.removeprefix("clt_")
    shown = daemon.run("token", "list").stdout
    assert f"until {datetime.fromisoformat(one['expires_at']).astimezone():%Y-%m-%d %H:%M:%S}, made " in shown
    assert secret not in listed.stdout + shown + daemon.log.read_text()
    for path in daemon.home.root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_beyond_loopback_it_serves_with_tls_or_not_at_all(home):
    one = Daemon(home)
    refused = one.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "--tls-cert" in refused.stderr
    assert not one.home.daemon_json.exists()
    half = one.run("serve", "--host", "0.0.0.0", "--port", "0", "--tls-cert", "/nowhere/cert.pem")
    assert half.returncode == 1
    assert "both" in half.stderr


@pytest.mark.requires("openssl")
def test_beyond_loopback_with_tls_nobody_is_let_in_without_a_token(daemon, certificate):
    daemon.stop()
    daemon.environ |= {"CLAUDE_LOOP_HOST": "0.0.0.0", "CLAUDE_LOOP_AUTH__LOOPBACK": "own-uid"}
    daemon.start()

    async def ask(address: str, token: str | None) -> int:
        async with session(certificate, token) as client:
            url = f"https://{address}:{daemon.port}/api/events"
            async with client.get(url, server_hostname="127.0.0.1") as answer:
                return answer.status

    address = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    for host in [one for one in address if ":" not in one][:1]:
        assert asyncio.run(ask(host, None)) == 401
        assert asyncio.run(ask(host, create(daemon, "--scope", "read"))) == 200
    until(lambda: asyncio.run(ask("127.0.0.1", None)) == 200)  # one's own user, as ever
