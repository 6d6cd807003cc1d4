"""What python-socketio and python-engineio get wrong for a server like ours, each with the client that shows it.

The versions are pinned; `test_what_is_used_of_the_libraries_is_there` names what is relied on beyond their documentation.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import engineio
import engineio.async_socket
import orjson
import pytest
import socketio
from engineio.async_drivers import aiohttp as driver

from claude_loop.errors import Internal
from claude_loop.settings import LimitSettings, Settings
from claude_loop.transports.auth import LOOPBACK, Principal
from claude_loop.transports.engineio_driver import _translate_request
from claude_loop.transports.outbox import Frame
from tests.support import PATIENCE, eventually
from tests.unit.transports.socketio_rig import Clients, Rig, handshake, is_cut_off, masked, serving

# Every so often, and answered within: what a test does before it falls silent must fit, also on a loaded machine.
PINGS = (0.2, 1.0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving() as running:
        yield running


class Broken:
    """An authenticator with a defect."""

    def from_socketio_auth(self, auth: object, request_principal: Principal) -> Principal | None:
        raise RuntimeError("a defect, not a refusal")


async def test_a_defect_in_connect_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """(a) Any exception but ConnectionRefusedError left the client connected, and receiving broadcasts."""
    async with serving(authenticator=Broken()) as rig, Clients(rig) as clients:
        client = await clients.open({"token": "x"})
        name, refusal = await client.next()
        assert (name, refusal["data"]["code"]) == ("44", Internal.code)
        await client.send("event", {"type": "x.y"}, ack=1)
        await rig.emit()
        await client.nothing_for(0.1)
        assert rig.transport.clients == set()
        assert rig.transport._server.manager.rooms == {}
        assert rig.hub.state.head == 1


async def test_nothing_reaches_a_client_that_is_still_being_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """(b) While an async connect awaits, namespace-wide broadcasts reached the client."""
    gate = asyncio.Event()
    async with serving() as rig, Clients(rig) as clients:
        admit = rig.transport.admit

        async def slow(*arguments: Any) -> None:
            await gate.wait()
            await admit(*arguments)

        monkeypatch.setattr(rig.transport, "admit", slow)
        witness_gate = asyncio.create_task(clients.open({"token": "wrong"}))
        client = await witness_gate
        await rig.emit_many(5)
        await client.nothing_for(0.1)
        assert rig.transport.clients == set()
        gate.set()
        assert (await client.next())[0] == "44"
        assert [name for name, _ in client.seen] == ["44"]


async def test_no_broadcast_without_a_room_is_ever_made() -> None:
    """(b) The only way out is a client's own socket: neither emit, send nor rooms of python-socketio are called."""
    import claude_loop.transports.socketio as transport
    import claude_loop.transports.socketio_client as client
    import claude_loop.transports.socketio_events as events
    import claude_loop.transports.socketio_server as server

    for module in (transport, client, events, server):
        source = inspect.getsource(module)
        for call in (".emit(", "enter_room", "_server.send(", "sio.send("):
            assert call not in source, (module.__name__, call)


def connections(rig: Rig) -> int:
    return len(rig.listeners.rules)


def own_tasks() -> set[str]:
    return {task.get_coro().__qualname__ for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_after_a_ping_timeout_nothing_of_the_client_stays() -> None:
    """(c) Queue, writer task and TCP connection of a stalled client stayed for ever."""
    async with serving(ping=PINGS, write_timeout=60) as rig, Clients(rig) as clients:
        raw = await clients.stalled("40", '420["subscribe",{"from":"start"}]')
        await eventually(lambda: rig.transport.statistics()["subscriptions"] == 1)
        for _ in range(100):
            await rig.emit(data={"text": "x" * 60_000})
        await eventually(lambda: not rig.transport.clients, what="the client is dropped")
        await eventually(lambda: connections(rig) == 0, what="its connection is closed")
        await eventually(lambda: rig.engine.sockets == {}, what="its session is forgotten")
        await eventually(lambda: not any("writer" in name or "Pump" in name for name in own_tasks()))
        assert await is_cut_off(raw)


async def test_after_a_ping_timeout_an_upgraded_connection_is_closed_too() -> None:
    """(c) After an upgrade `environ` still names the polling request, whose connection is another one."""
    async with serving(ping=PINGS, write_timeout=60) as rig, Clients(rig) as clients:
        url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
        sid = orjson.loads((await (await clients.http.get(url)).text())[1:])["sid"]
        head = {"Content-Type": "text/plain"}
        assert (await clients.http.post(f"{url}&sid={sid}", data=b"40", headers=head)).status == 200
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", rig.port)) as raw:
            raw.setblocking(False)
            await loop.sock_sendall(raw, handshake(rig.port, f"&sid={sid}"))
            assert b"101" in await loop.sock_recv(raw, 1024)
            await loop.sock_sendall(raw, masked("2probe"))
            assert b"3probe" in await loop.sock_recv(raw, 100)
            await loop.sock_sendall(raw, masked("5"))
            await eventually(lambda: rig.transport.statistics()["readers"][0]["transport"] == "websocket")
            environ = rig.transport._server.environ[sid]
            assert environ["aiohttp.request"].query["transport"] == "polling", "the defect is still there"
            assert await is_cut_off(raw)
        await eventually(lambda: rig.engine.sockets == {})


async def test_a_client_that_does_not_read_is_cut_off_in_time() -> None:
    """(c) It need not miss a ping: the write timeout is shorter."""
    async with serving(write_timeout=0.3) as rig, Clients(rig) as clients:
        raw = await clients.stalled("40", '420["subscribe",{"from":"start"}]')
        await eventually(lambda: rig.transport.statistics()["subscriptions"] == 1)
        for _ in range(200):
            await rig.emit(data={"text": "x" * 60_000})
        await eventually(lambda: not rig.transport.clients)
        assert rig.transport.statistics()["cut_off"] == 1
        assert await is_cut_off(raw)


async def test_a_half_open_upgrade_goes_with_its_session() -> None:
    """A probe that never comes held its connection for ever."""
    async with serving(ping=PINGS) as rig, Clients(rig) as clients:
        url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
        sid = orjson.loads((await (await clients.http.get(url)).text())[1:])["sid"]
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", rig.port)) as raw:
            raw.setblocking(False)
            await loop.sock_sendall(raw, handshake(rig.port, f"&sid={sid}"))
            assert b"101" in await loop.sock_recv(raw, 1024)
            second = await clients.http.get(
                f"{rig.url}/socket.io/?EIO=4&transport=websocket&sid={sid}",
                headers={
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                },
            )
            assert second.status == 400, "one upgrade at a time"
            assert await is_cut_off(raw)


async def test_an_upgrade_that_comes_to_nothing_leaves_the_client_polling(rig: Rig, clients: Clients) -> None:
    """Behind a proxy that drops websockets every poll was answered with nothing, at once, until the ping timed out."""
    url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
    sid = orjson.loads((await (await clients.http.get(url)).text())[1:])["sid"]
    url += f"&sid={sid}"
    await clients.http.post(url, data="40", headers={"Content-Type": "text/plain"})
    await clients.http.get(url)
    async with clients.http.ws_connect(f"{rig.url}/socket.io/?EIO=4&transport=websocket&sid={sid}"):
        pass
    await eventually(lambda: rig.engine.sockets[sid]._transport is None)
    await rig.emit("after.it")
    answer = await (await clients.http.get(url)).text()
    if answer == "6":  # what ended a poll during the upgrade
        answer = await (await clients.http.get(url)).text()
    assert "after.it" in answer


async def test_the_end_of_a_session_ends_its_next_ping(rig: Rig, clients: Clients) -> None:
    """It slept until the ping was due, and kept the session so long: whoever connects all the time filled the memory."""
    for _ in range(3):
        client = await clients.join()
        await client.close()
    await eventually(lambda: not rig.engine.sockets)
    await eventually(lambda: not [task for task in asyncio.all_tasks() if "ping" in task.get_name()], seconds=10)


async def test_a_closed_polling_session_lets_go_of_its_requests(rig: Rig, clients: Clients) -> None:
    """Both its waiting poll and an upgrade that was begun."""
    url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
    sid = orjson.loads((await (await clients.http.get(url)).text())[1:])["sid"]
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", rig.port)) as raw:
        raw.setblocking(False)
        polling = asyncio.create_task(clients.http.get(f"{url}&sid={sid}"))
        await eventually(lambda: rig.engine.find(sid).queue.is_idle)
        await loop.sock_sendall(raw, handshake(rig.port, f"&sid={sid}"))
        assert b"101" in await loop.sock_recv(raw, 1024)
        posted = await clients.http.post(f"{url}&sid={sid}", data=b"1", headers={"Content-Type": "text/plain"})
        assert posted.status == 200
        await asyncio.wait_for(polling, PATIENCE)
        assert await is_cut_off(raw)
    await eventually(lambda: rig.engine.open_sessions() == [])


async def test_permessage_deflate_is_off(rig: Rig, clients: Clients) -> None:
    """(d) It costs some 200 KB a client."""
    client = await clients.open(compress=15)
    assert client.websocket._response.headers.get("Sec-WebSocket-Extensions") is None
    assert client.websocket.compress == 0


async def test_remote_address_is_the_clients(rig: Rig, clients: Clients) -> None:
    """(e) It was hard-coded to 127.0.0.1."""
    await clients.http.get(f"http://[::1]:{rig.port}/socket.io/?EIO=4&transport=polling")
    await clients.http.get(f"{rig.url}/socket.io/?EIO=4&transport=polling")
    assert sorted(each["REMOTE_ADDR"] for each in rig.transport._server.environ.values()) == ["127.0.0.1", "::1"]
    assert rig.engine._async["translate_request"] is _translate_request


async def test_publishing_does_not_wait_for_the_commit(rig: Rig, clients: Clients) -> None:
    """(f) Handling the next packet only after the answer to this one makes a commit for each."""
    client = await clients.join()
    submitted: list[int] = []
    submit = rig.hub.submit

    def held(events: Any, offsets: Any = ()) -> asyncio.Future[Any]:
        submitted.append(len(events))
        submit(events, offsets)
        return asyncio.get_running_loop().create_future()

    rig.hub.submit = held  # type: ignore[method-assign]
    for n in range(50):
        await client.send("event", {"type": "x.y"}, ack=n)
    await eventually(lambda: len(submitted) == 50)


async def test_a_client_that_publishes_and_never_reads_holds_bounded_memory() -> None:
    """(g) The queue has no bound of its own: answers piled up."""
    async with serving(write_timeout=0.5) as rig, Clients(rig) as clients:
        raw = await clients.stalled("40")
        await eventually(lambda: rig.transport.clients)
        (session,) = rig.engine.open_sessions()
        loop = asyncio.get_running_loop()
        packet = masked('421["no_such_thing",{"padding":"' + "x" * 60 + '"}]') * 100
        deepest = 0

        async def flood() -> None:
            while rig.transport.clients:
                await loop.sock_sendall(raw, packet)

        flooding = asyncio.create_task(flood())
        while rig.transport.clients:
            deepest = max(deepest, len(session.queue))
            await asyncio.sleep(0.01)
        await asyncio.wait([flooding], timeout=1)
        assert flooding.done() or flooding.cancel()
        assert 0 < deepest <= 300
        assert rig.transport.refused["not_supported"] > 300


async def test_a_connection_that_breaks_in_mid_round_costs_one_write(rig: Rig, clients: Clients) -> None:
    """asyncio logs a line for every write to a connection that is gone: a round would make hundreds."""

    class Breaking:
        def __init__(self) -> None:
            self.written: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.written.append(data)

        def is_closing(self) -> bool:
            return bool(self.written)

    await clients.join()
    (socket_,) = rig.engine.open_sessions()
    connection = socket_._transport = Breaking()
    round_ = [Frame(b"4a"), Frame(b"4" + b"b" * 200), Frame(b"4" + b"c" * 70_000)]
    socket_.write(round_)
    socket_.write(round_)
    assert connection.written == [b"".join(frame.websocket for frame in round_)]


async def test_messages_to_a_client_that_never_reads_are_bounded() -> None:
    async with serving(write_timeout=60) as rig, Clients(rig) as clients:
        await clients.stalled("40")
        await eventually(lambda: rig.transport.clients)
        (sid,) = rig.transport.clients
        (session,) = rig.engine.open_sessions()
        for n in range(5000):
            rig.transport.send_to_client(sid, "note", {"n": n, "text": "x" * 10_000})
            assert session.queue.bytes < 5_000_000
        await eventually(lambda: not rig.transport.clients)


async def test_a_client_gone_while_being_checked_is_forgotten() -> None:
    """python-socketio marks it connected afterwards, for ever."""
    gate = asyncio.Event()
    async with serving(ping=(0.15, 0.15)) as rig, Clients(rig) as clients:
        admit = rig.transport.admit

        async def slow(*arguments: Any) -> None:
            await gate.wait()
            await admit(*arguments)

        rig.transport.admit = slow  # type: ignore[method-assign]
        raw = await clients.stalled("40")
        await eventually(lambda: rig.transport._server.manager.rooms)
        assert await is_cut_off(raw)
        gate.set()
        await eventually(lambda: rig.transport._server.manager.rooms == {})
        assert rig.transport.clients == set()
        assert rig.transport._opening == {}


async def test_who_never_joins_is_cut_off() -> None:
    settings = Settings(port=0, limits=LimitSettings(handshake_seconds=3.0))  # two of them join in time
    async with serving(settings=settings) as rig, Clients(rig) as clients:
        left = await clients.join()
        refused = await clients.open({"token": "wrong"})
        assert (await refused.next())[0] == "44"
        await left.websocket.send_str("41")
        assert await is_cut_off(await clients.stalled())
        for client in (refused, left):
            with pytest.raises(EOFError):
                await client.next()
        await eventually(lambda: rig.engine.open_sessions() == [])


async def test_joining_again_over_the_same_session(
    rig: Rig, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    client = await clients.join()
    await client.websocket.send_str("41")
    await eventually(lambda: not rig.transport.clients)
    await client.websocket.send_str("40")
    await client.until("connected")
    await rig.emit()
    assert (await client.next())[0] == "event"
    await client.websocket.send_str("40")
    assert (await client.next())[0] == "44", "not twice at a time"
    await rig.emit()
    assert (await client.next())[0] == "event"
    await client.nothing_for(0.05)
    assert caplog.records == []


async def test_other_namespaces_are_refused(rig: Rig, clients: Clients) -> None:
    client = await clients.open(connect=False)
    await client.websocket.send_str("40/admin,{}")
    assert (await client.packet()).startswith("44/admin,")
    await client.websocket.send_str('42/admin,["event",{"type":"x.y"}]')
    await client.websocket.send_str('42["event",{"type":"x.y"}]')
    await client.nothing_for(0.1)
    assert rig.hub.state.head == 0


async def test_sessions_are_limited() -> None:
    async with serving(settings=Settings(port=0, limits=LimitSettings(connections=3))) as rig, Clients(rig) as clients:
        url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
        for _ in range(3):
            assert (await clients.http.get(url)).status == 200
        refused = await clients.http.get(url)
        assert refused.status == 429
        assert (await refused.json())["error"]["code"] == "busy"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("EIO=4&transport=polling&sid=nothing", 400),
        ("EIO=3&transport=polling", 400),
        ("EIO=4&transport=carrier-pigeon", 400),
        ("EIO=4&transport=polling&j=0", 400),
        ("EIO=4&transport=websocket", 400),
    ],
)
async def test_odd_requests(rig: Rig, clients: Clients, query: str, status: int) -> None:
    assert (await clients.http.get(f"{rig.url}/socket.io/?{query}")).status == status
    assert rig.engine.sockets == {}


async def test_head_opens_no_session(rig: Rig, clients: Clients) -> None:
    answer = await clients.http.head(f"{rig.url}/socket.io/?EIO=4&transport=polling")
    assert answer.status == 405
    assert rig.engine.sockets == {}


async def test_same_origin_and_no_origin_pass(rig: Rig, clients: Clients) -> None:
    """The gate decides; engineio's own check refuses [::1] behind a proxy and whatever differs in case."""
    for url, headers in [
        (rig.url, {}),
        (rig.url, {"Origin": rig.url}),
        (f"http://[::1]:{rig.port}", {"Origin": f"http://[::1]:{rig.port}"}),
        (f"http://localhost:{rig.port}", {"Origin": f"http://LOCALHOST:{rig.port}"}),
    ]:
        opened = await clients.http.get(f"{url}/socket.io/?EIO=4&transport=polling", headers=headers)
        assert opened.status == 200, (url, headers)
        assert "Access-Control-Allow-Origin" not in opened.headers
        assert "Set-Cookie" not in opened.headers
    refused = await clients.http.get(
        f"{rig.url}/socket.io/?EIO=4&transport=polling", headers={"Origin": "http://evil.test"}
    )
    assert refused.status == 403


async def test_an_allowed_origin_is_let_through_by_both() -> None:
    settings = Settings(port=0, allowed_origins=("http://page.test:8080",))
    async with serving(settings=settings) as rig, Clients(rig) as clients:
        origin = {"Origin": "http://page.test:8080"}
        opened = await clients.http.get(f"{rig.url}/socket.io/?EIO=4&transport=polling", headers=origin)
        assert opened.status == 200
        assert opened.headers.getall("Access-Control-Allow-Origin") == ["http://page.test:8080"]
        client = await clients.open(headers=origin)
        assert (await client.next())[0] == "40"


async def test_what_clients_send_is_not_logged(rig: Rig, clients: Clients, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = await clients.join()
    await client.call("event", {"type": "x.y", "data": {"text": "private words"}})
    await client.websocket.send_str('42["event",{"broken private words')
    await client.until("error")
    assert "private words" not in caplog.text


def test_what_is_used_of_the_libraries_is_there() -> None:
    """Names and signatures beyond the documented interface; a new version must be looked at here first."""
    assert socketio.__name__
    sockets = engineio.async_socket.AsyncSocket
    for name in ("poll", "send", "close", "receive", "_send_ping", "handle_get_request", "_upgrade_websocket"):
        assert inspect.iscoroutinefunction(getattr(sockets, name))
    assert list(inspect.signature(sockets.close).parameters) == ["self", "wait", "abort", "reason"]
    engine = engineio.AsyncServer
    for name in ("_handle_connect", "_service_task", "_trigger_event", "_upgrades", "_ok", "handle_request"):
        assert callable(getattr(engine, name))
    assert list(inspect.signature(engine._handle_connect).parameters) == ["self", "environ", "transport", "jsonp_index"]
    assert set(driver._async) == {"asyncio", "create_route", "translate_request", "make_response", "websocket"}
    server = socketio.AsyncServer
    for name in ("_handle_connect", "_handle_disconnect", "_handle_eio_message", "_engineio_server_class"):
        assert callable(getattr(server, name))
    assert list(inspect.signature(server._handle_eio_message).parameters) == ["self", "eio_sid", "data"]
    assert LOOPBACK.may("emit")


async def test_a_polling_response_nobody_reads_does_not_stay() -> None:
    async with serving(write_timeout=1.0) as rig, Clients(rig) as clients:
        url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
        sid = orjson.loads((await (await clients.http.get(url)).text())[1:])["sid"]
        head = {"Content-Type": "text/plain"}
        assert (await clients.http.post(f"{url}&sid={sid}", data=b"40", headers=head)).status == 200
        await clients.http.close()
        await eventually(lambda: connections(rig) == 0)
        (joined,) = rig.transport.clients
        for _ in range(13):
            rig.transport.send_to_client(joined, "note", "x" * 300_000)
        loop = asyncio.get_running_loop()
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", rig.port))
            line = f"GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\n\r\n"
            await loop.sock_sendall(raw, line.encode())
            await eventually(lambda: connections(rig) == 1)
            await eventually(lambda: connections(rig) == 0, what="the connection nobody reads is closed")
