"""Limits on connections and on how long a request head may take."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from claude_loop.transports import connection
from claude_loop.transports.connection import Connection
from tests.guarded_server import Guarded, ask, guarded, read_answer
from tests.support import PATIENCE, eventually

GET = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def open_to(server: Guarded) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def test_more_connections_than_the_limit_are_told_so() -> None:
    async with guarded(limits={"connections": 2}) as server:
        held = [await open_to(server) for _ in range(2)]
        for reader, writer in held:
            writer.write(GET)
            assert (await read_answer(reader)).status == 200
        reader, writer = await open_to(server)
        answer = await read_answer(reader)
        assert (answer.status, answer.code) == (429, "busy")
        assert "2 connections" in answer.json["error"]["message"]
        assert await reader.read() == b""
        writer.close()
        assert server.listeners.rules.refused == 1
        held[0][1].close()
        await eventually(lambda: len(server.listeners.rules) == 1)
        assert (await ask(server)).status == 200
        held[1][1].close()


async def test_the_unix_socket_is_not_shut_out(home: Path) -> None:
    home.mkdir(parents=True)
    async with guarded(limits={"connections": 1}, unix_socket=home / "sock") as server:
        _, writer = await open_to(server)
        await eventually(lambda: len(server.listeners.rules) == 1)
        assert (await ask(server, unix=home / "sock")).status == 200
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_head_that_does_not_end_is_cut_off(sent: bytes) -> None:
    async with guarded(limits={"handshake_seconds": 0.2}) as server:
        reader, writer = await open_to(server)
        writer.write(sent)
        answer = await read_answer(reader)
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert await reader.read() == b""
        writer.close()
        await eventually(lambda: len(server.listeners.rules) == 0)


async def test_dribbling_bytes_buy_no_time() -> None:
    async with guarded(limits={"handshake_seconds": 0.3}) as server:
        reader, writer = await open_to(server)
        answer = asyncio.ensure_future(read_answer(reader))
        for byte in GET[:-2] + b"X: " + b"y" * 1000:
            if answer.done() or writer.is_closing():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert (await answer).status == 408
        writer.close()


async def test_a_connection_that_has_asked_in_time_stays() -> None:
    async with guarded(limits={"handshake_seconds": 1.0}) as server:
        reader, writer = await open_to(server)
        writer.write(GET)
        assert (await read_answer(reader)).status == 200
        await asyncio.sleep(1.2)  # the time itself is what is tested
        writer.write(GET)
        assert (await read_answer(reader)).status == 200
        writer.close()


async def test_a_later_head_is_bounded_by_the_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "KEEPALIVE_SECONDS", 0.3)
    async with guarded() as server:
        reader, writer = await open_to(server)
        writer.write(GET)
        assert (await read_answer(reader)).status == 200
        writer.write(b"GET /slow")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()


async def test_connections_are_released() -> None:
    """What was learnt of a peer goes with its connection, and nothing else keeps it."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, Connection) for each in gc.get_objects())

    async with guarded() as server:
        before = alive()
        held = [await open_to(server) for _ in range(20)]
        await eventually(lambda: alive() == before + 20)
        for reader, writer in held:
            writer.write(GET)
            assert (await read_answer(reader)).status == 200
            writer.close()
        await eventually(lambda: len(server.listeners.rules) == 0)
        await eventually(lambda: alive() == before)


async def test_the_peer_is_asked_once_for_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded() as server:
        asked = []
        identify = server.listeners.rules.identify
        monkeypatch.setattr(
            server.listeners.rules, "identify", lambda transport: (asked.append(1), identify(transport))[1]
        )
        reader, writer = await open_to(server)
        for _ in range(5):
            writer.write(GET)
            assert (await read_answer(reader)).json["kind"] == "loopback"
        writer.close()
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x16\x03\x01 not http\r\n\r\n", "invalid_request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", "too_large"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n", "too_large"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n", "invalid_request"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "invalid_request",
        ),
    ],
)
async def test_what_is_no_request_is_answered_like_every_error(sent: bytes, code: str) -> None:
    async with guarded() as server:
        reader, writer = await open_to(server)
        writer.write(sent)
        answer = await read_answer(reader)
        assert answer.code == code
        assert await reader.read() == b""
        writer.close()
        assert (await ask(server)).status == 200


async def test_reset_at_once_is_survived() -> None:
    async with guarded() as server:
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        await eventually(lambda: len(server.listeners.rules) == 0)
        assert (await ask(server)).status == 200


@pytest.mark.parametrize("case", ["who", "full", "late"])
def test_the_same_on_uvloop(home: Path, case: str) -> None:
    """The daemon runs on uvloop, whose transports and sockets are classes of its own."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not there on this platform")
    home.mkdir(parents=True)

    async def who() -> None:
        async with guarded(unix_socket=home / "sock") as server:
            assert (await ask(server)).json["kind"] == "loopback"
            assert (await ask(server, unix=home / "sock")).json["kind"] == "socket"
            await eventually(lambda: len(server.listeners.rules) == 0)

    async def full() -> None:
        async with guarded(limits={"connections": 1}) as server:
            _, writer = await open_to(server)
            await eventually(lambda: len(server.listeners.rules) == 1)
            assert (await ask(server)).code == "busy"
            writer.close()

    async def late() -> None:
        async with guarded(limits={"handshake_seconds": 0.2}) as server:
            reader, writer = await open_to(server)
            assert (await read_answer(reader)).code == "request_timeout"
            writer.close()

    uvloop.run({"who": who, "full": full, "late": late}[case]())
