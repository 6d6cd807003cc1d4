"""The embeddable server: its promised surface, and that it starts and stops as a whole or not at all."""

import asyncio
import contextlib
import inspect
import os
import socket
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import socketio
from structlog.testing import capture_logs

from claude_loop.errors import (
    AlreadyRunning,
    InvalidEvent,
    LogDamaged,
    NotSupported,
    PortTaken,
    SettingsRefused,
    ShuttingDown,
    UnsafeHome,
)
from claude_loop.instance import DaemonNote, is_running
from claude_loop.paths import Home
from claude_loop.settings import load_settings
from claude_loop.transports.token_file import read_token
from claude_loop.websocket_server import ClaudeLoopWebSocketServer
from tests.sse_client import stream
from tests.support import eventually, free_port

# A stop takes five seconds at the most, and a loaded machine twice as long.
STOP_SECONDS = 10.0


@asynccontextmanager
async def serving(**options):
    server = ClaudeLoopWebSocketServer(port=options.pop("port", 0), **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def server():
    async with serving() as server:
        yield server


@asynccontextmanager
async def client(server, **auth):
    """python-socketio's own client, with what it was sent: ``[(name, payload), …]``."""
    sio = socketio.AsyncClient(reconnection=False)
    got = []

    async def keep(name, payload=None):
        got.append((name, payload))

    sio.on("*", keep)
    await sio.connect(server.url, auth=auth or None, transports=["websocket"])
    try:
        await eventually(lambda: got)
        sio.got = got
        yield sio
    finally:
        await sio.disconnect()
        await sio.shutdown()


def events(sio):
    return [payload for name, payload in sio.got if name == "event"]


async def stored(server):
    return (await server.hub.log.read(0, 1000)).events


# -- the promised surface ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("start", []),
        ("broadcast", ["event_type", "data"]),
        ("send_to_prd_subscribers", ["prd_id", "event_type", "data"]),
        ("send_to_client", ["sid", "event_type", "data"]),
        ("register_handler", ["event_type", "handler"]),
        ("stop", []),
        ("run_forever", []),
    ],
)
def test_names_and_parameters_are_a_promise(name, parameters):
    method = getattr(ClaudeLoopWebSocketServer, name)
    assert list(inspect.signature(method).parameters)[1:] == parameters
    assert inspect.iscoroutinefunction(method) is (name != "register_handler")


def test_a_server_can_be_looked_at_before_it_runs():
    server = ClaudeLoopWebSocketServer()
    assert (server.host, server.port) == ("127.0.0.1", 18790)
    assert (set(server.clients), dict(server.subscriptions)) == (set(), {})
    signature = inspect.signature(ClaudeLoopWebSocketServer)
    assert list(signature.parameters)[:2] == ["host", "port"]
    assert not server.home.root.exists()


async def test_it_tells_where_it_serves_and_leaves_a_note(server):
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}"
    note = DaemonNote.read(server.home)
    assert (note.pid, note.url) == (os.getpid(), server.url)
    assert is_running(server.home)
    async with aiohttp.ClientSession(server.url) as session, session.get("/health") as answer:
        health = await answer.json()
    assert health["status"] == "healthy"


async def test_an_event_is_stored_and_then_delivered(server):
    async with client(server) as sio:
        seq = await server.broadcast("note.made", {"n": 1})
        (event,) = await stored(server)
        assert (seq, event.type, event.data, event.prd_id) == (1, "note.made", {"n": 1}, None)
        assert event.source == "python"
        await eventually(lambda: events(sio))
        assert events(sio)[0] == event.as_dict()


async def test_events_of_a_prd_reach_those_who_subscribed_to_it(server):
    async with client(server) as first, client(server) as second:
        await first.call("subscribe_prd", {"prd_id": "PRD-001"})
        await second.call("subscribe_prd", {"prd_id": "PRD-002"})
        assert {prd: len(sids) for prd, sids in server.subscriptions.items()} == {"PRD-001": 1, "PRD-002": 1}
        assert len(server.clients) == 2
        await server.send_to_prd_subscribers("PRD-001", "story.started", {"story_id": "US-001"})
        await server.broadcast("note.made", {})
        await eventually(lambda: len(events(first)) == 2 and len(events(second)) == 1)
        started, note = events(first)
        assert (started["prd_id"], started["story_id"]) == ("PRD-001", "US-001")
        assert started["data"] == {"story_id": "US-001", "status": "in_progress"}
        assert events(second) == [note]
    await eventually(lambda: not server.clients and not server.subscriptions)


async def test_ids_are_taken_from_the_data_and_from_the_environment(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    await server.broadcast("note.made", {"prd_id": "PRD-7", "story_id": "US-7", "session_id": "s", "run_id": 7})
    monkeypatch.setenv("CLAUDE_LOOP_PROJECT", "shop")
    monkeypatch.setenv("CLAUDE_LOOP_PRD", "PRD-8")
    await server.broadcast("note.made", {})
    await server.send_to_prd_subscribers("PRD-9", "note.made", {"prd_id": "PRD-7", "project": "bank"})
    first, second, third = await stored(server)
    assert (first.project, first.prd_id, first.story_id, first.session_id) == (tmp_path.name, "PRD-7", "US-7", "s")
    assert first.data == {"prd_id": "PRD-7", "story_id": "US-7", "session_id": "s", "run_id": 7}
    assert (second.project, second.prd_id) == ("shop", "PRD-8")
    assert (third.project, third.prd_id) == ("bank", "PRD-9")


@pytest.mark.parametrize(
    ("event_type", "data", "field"),
    [("Not A Type", {}, "type"), ("test.run", {"story_id": "US-1", "passed": "many", "failed": 0}, "data.passed")],
)
async def test_what_is_no_event_is_refused_and_not_stored(server, event_type, data, field):
    with pytest.raises(InvalidEvent) as refusal:
        await server.send_to_prd_subscribers("PRD-001", event_type, data)
    assert refusal.value.field == field
    assert await stored(server) == []


async def test_a_message_to_one_client_reaches_that_client_and_not_the_log(server):
    async with client(server) as first, client(server) as second:
        sid = next(payload["sid"] for name, payload in first.got if name == "connected")
        assert sid in server.clients
        assert await server.send_to_client(sid, "hint.given", {"prd_id": "PRD-001", "text": "look"}) is True
        await eventually(lambda: events(first))
        (hint,) = events(first)
        assert (hint["type"], hint["prd_id"], hint["data"]["text"]) == ("hint.given", "PRD-001", "look")
        assert hint["timestamp"].endswith("Z")
        assert "seq" not in hint
        await server.broadcast("note.made", {})
        await eventually(lambda: events(second))
        assert [event["type"] for event in events(second)] == ["note.made"]
    assert await server.send_to_client("nobody", "hint.given", {}) is False
    assert len(await stored(server)) == 1


async def test_the_bus_hears_of_events_whatever_way_they_came(server):
    heard = []
    server.event_bus.subscribe("*", lambda event: heard.append((event.seq, event.type)))
    await server.broadcast("note.made", {})
    event = {"type": "story.started", "prd_id": "P", "story_id": "S"}
    async with aiohttp.ClientSession(server.url) as session, session.post("/api/events", json=event) as answer:
        assert answer.status == 200
    await eventually(lambda: len(heard) == 2)
    assert heard == [(1, "note.made"), (2, "story.started")]


# -- handlers ----------------------------------------------------------------------------------------------------------


async def commanded(server, payload=None, *, token=True):
    """The answer to a command, and what else the client was told."""
    auth = {"token": read_token(server.home.token)} if token else {}
    async with client(server, **auth) as sio:
        answer = await sio.call("control_prd", payload or {"action": "pause", "prd_id": "PRD-001"})
        return answer, [each for each in sio.got if each[0] != "connected"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_command_reaches_its_handler_and_the_result_comes_back(server, kind):
    calls = []

    def pause(action, prd_id):
        calls.append((action, prd_id))
        return {"paused": prd_id}

    async def pause_later(action, prd_id):
        await asyncio.sleep(0)
        return pause(action, prd_id)

    server.register_handler("control_prd", pause if kind == "sync" else pause_later)
    answer, told = await commanded(server)
    assert calls == [("pause", "PRD-001")]
    assert answer == {"ok": True, "result": {"paused": "PRD-001"}}
    assert told == [("control_result", {"action": "pause", "prd_id": "PRD-001", "result": {"paused": "PRD-001"}})]


async def test_without_a_token_nobody_commands(server):
    server.register_handler("control_prd", lambda action, prd_id: pytest.fail("called without the right to"))
    answer, _ = await commanded(server, token=False)
    assert answer["error"]["code"] == "forbidden"


async def test_without_a_handler_a_command_is_not_supported(server):
    answer, _ = await commanded(server)
    assert answer["error"]["code"] == "not_supported"


@pytest.mark.parametrize(
    ("failure", "code"), [(UnsafeHome("not here"), "home_unsafe"), (RuntimeError("a secret detail"), "internal")]
)
async def test_a_handler_that_fails_is_the_clients_error(server, failure, code):
    def fail(action, prd_id):
        raise failure

    server.register_handler("control_prd", fail)
    answer, _ = await commanded(server)
    assert answer["error"]["code"] == code
    assert "secret" not in str(answer)


async def test_a_handler_of_another_name_gets_the_sid_and_the_payload(server):
    server.register_handler("whoami", lambda sid, payload: {"sid": sid, "said": payload})
    async with client(server) as sio:
        answer = await sio.call("whoami", {"n": 1})
        assert answer["said"] == {"n": 1}
        assert answer["sid"] in server.clients


@pytest.mark.parametrize("name", ["event", "subscribe", "subscribe_prd", "unsubscribe_prd"])
def test_what_the_server_answers_itself_takes_no_handler(name):
    with pytest.raises(NotSupported):
        ClaudeLoopWebSocketServer().register_handler(name, print)


# -- starting ----------------------------------------------------------------------------------------------------------


def traces():
    """What a server leaves behind when it does not clean up: descriptors, threads and tasks."""
    descriptors = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            descriptors.append(os.readlink(entry).split(":")[0])
    threads = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("eventlog"))
    return sorted(descriptors), threads, {task.get_name() for task in asyncio.all_tasks()}


async def test_one_home_has_one_server(server):
    for second in (ClaudeLoopWebSocketServer(port=0), server):
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            await second.start()
    await server.broadcast("note.made", {})
    async with aiohttp.ClientSession(server.url) as session, session.get("/api/events") as answer:
        assert len((await answer.json())["events"]) == 1


async def test_two_homes_have_two_servers(server, tmp_path):
    async with serving(home=Home(tmp_path / "other")) as other:
        assert other.url != server.url
        await other.broadcast("note.made", {})
        assert await stored(server) == []


def a_file_as_home(home):
    home.root.parent.mkdir(exist_ok=True)
    home.root.write_text("in the way")


def a_file_as_socket(home):
    home.prepare()
    home.socket.write_text("in the way")


def a_log_that_is_none(home):
    home.prepare()
    home.database.write_bytes(b"this is no database, and long enough to be looked at" * 100)


def a_token_others_may_read(home):
    home.prepare()
    home.token.write_text("t" * 40)
    home.token.chmod(0o644)


def a_directory_as_note(home):
    home.prepare()
    home.daemon_json.with_suffix(".new").mkdir()


@pytest.mark.requires("linux")
@pytest.mark.parametrize(
    ("obstacle", "error"),
    [
        (a_file_as_home, UnsafeHome),
        (a_file_as_socket, UnsafeHome),
        (a_log_that_is_none, LogDamaged),
        (a_token_others_may_read, UnsafeHome),
        (a_directory_as_note, OSError),
    ],
)
async def test_a_start_that_fails_leaves_nothing_locked_or_half_open(home, obstacle, error):
    await asyncio.to_thread(int)  # the loop's own threads are not the server's
    await asyncio.sleep(0)
    port = free_port()
    obstacle(Home(home))
    before = traces()
    server = ClaudeLoopWebSocketServer(port=port)
    for _ in range(2):
        with pytest.raises(error):
            await server.start()
        assert traces() == before
    if home.is_dir():
        assert not is_running(Home(home))
        assert not Home(home).daemon_json.exists()
        assert not Home(home).socket.is_socket()
    with pytest.raises(ShuttingDown):
        await server.broadcast("note.made", {})
    assert await server.send_to_client("sid", "note.made", {}) is False
    async with serving(port=port, home=Home(home.with_name("another"))) as other:
        assert other.port == port


async def test_a_port_that_is_taken_is_named_and_nothing_is_left(home):
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        server = ClaudeLoopWebSocketServer(port=port)
        with pytest.raises(PortTaken, match=str(port)):
            await server.start()
        assert not is_running(Home(home))
        assert not Home(home).database.exists()
    await server.start()
    assert server.port == port
    await server.stop()


async def test_a_start_that_is_cancelled_leaves_nothing(home):
    for turns in range(12):
        server = ClaudeLoopWebSocketServer(port=0)
        starting = asyncio.ensure_future(server.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        await server.stop()
        assert not home.exists() or not is_running(Home(home))
        assert not {task.get_name() for task in asyncio.all_tasks()} - {asyncio.current_task().get_name()}


def test_a_setting_that_cannot_be_is_named(monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_DURABILITY", "some")
    with pytest.raises(SettingsRefused, match="CLAUDE_LOOP_DURABILITY"):
        ClaudeLoopWebSocketServer()


async def test_where_a_token_is_needed_the_way_to_send_it_is_shown():
    settings = load_settings(auth={"loopback": "token"})
    with capture_logs() as entries:
        async with serving(settings=settings) as server, aiohttp.ClientSession(server.url) as session:
            async with session.get("/api/prds") as answer:
                hint = (await answer.json())["error"]["hint"]
            token = read_token(server.home.token)
            async with session.get("/api/prds", headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status == 200
    assert str(server.home.token) in hint
    assert server.url in hint
    assert [entry["example"] for entry in entries if "example" in entry] == [hint]
    assert token not in str(entries) + hint


async def test_where_no_token_is_needed_none_is_mentioned():
    with capture_logs() as entries:
        async with serving():
            pass
    assert not [entry for entry in entries if "example" in entry]


# -- stopping ----------------------------------------------------------------------------------------------------------


async def test_stopping_leaves_no_trace_and_may_be_repeated(home):
    await asyncio.to_thread(int)
    before = traces()
    server = ClaudeLoopWebSocketServer(port=0)
    await server.stop()
    await server.start()
    async with client(server) as sio:
        await sio.call("subscribe", {"from": "now"})
        await asyncio.gather(server.stop(), server.stop())
        await eventually(lambda: not sio.connected)
        assert "bye" in [name for name, _ in sio.got]
    await server.stop()
    await eventually(lambda: traces() == before)
    assert not is_running(Home(home))
    assert not Home(home).daemon_json.exists()
    assert not Home(home).socket.exists()
    assert (server.clients, server.subscriptions) == (set(), {})


async def test_a_second_stop_returns_when_the_first_has_ended(home):
    server = ClaudeLoopWebSocketServer(port=0)
    await server.start()
    first = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0)
    await server.stop()
    assert first.done()
    assert not is_running(Home(home))


async def test_it_may_be_started_again_and_goes_on_where_it_was(home):
    server = ClaudeLoopWebSocketServer(port=0)
    heard = []
    server.event_bus.subscribe("*", lambda event: heard.append(event.seq))
    server.register_handler("whoami", lambda sid, payload: sid)
    for turn in (1, 2, 3):
        await server.start()
        assert await server.broadcast("note.made", {"turn": turn}) == turn
        await eventually(lambda: len(heard) == server.hub.state.head)
        async with client(server) as sio:
            assert await sio.call("whoami", {}) in server.clients
        await server.stop()
    assert heard == [1, 2, 3]


async def test_what_was_acknowledged_before_a_stop_is_there_after_it():
    server = ClaudeLoopWebSocketServer(port=0)
    await server.start()
    acknowledged = {}

    async def publish(start):
        for n in range(start, start + 1000):
            try:
                acknowledged[await server.broadcast("note.made", {"n": n})] = n
            except ShuttingDown:
                return

    publishing = [asyncio.ensure_future(publish(start)) for start in (0, 1000, 2000, 3000)]
    await eventually(lambda: len(acknowledged) > 50)
    await server.stop()
    await asyncio.gather(*publishing)
    await server.start()
    kept = {}
    while page := (await server.hub.log.read(max(kept, default=0), 1000)).events:
        kept |= {event.seq: event.data["n"] for event in page}
    assert acknowledged
    assert {seq: kept[seq] for seq in acknowledged} == acknowledged
    await server.stop()


@asynccontextmanager
async def stalled(server, count):
    """Socket.IO clients that connect and never read again."""
    from tests.unit.transports.socketio_rig import handshake, masked

    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as sockets:
        for _ in range(count):
            raw = sockets.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", server.port))
            await loop.sock_sendall(raw, handshake(server.port))
            await loop.sock_recv(raw, 1024)
            await loop.sock_sendall(raw, masked("40"))
        await eventually(lambda: len(server.clients) == count)
        # More than the kernel's buffers hold.
        await asyncio.gather(*(server.broadcast("note.made", {"text": "x" * 60_000}) for _ in range(150)))
        await eventually(lambda: are_stuck(server), what="stalled clients")
        yield


async def are_stuck(server):
    def lags():
        return [reader["lag"] for reader in server._socketio.statistics()["readers"]]

    before = lags()
    await asyncio.sleep(0.2)
    return all(before) and lags() == before


async def test_a_stop_is_bounded_whatever_clients_do(server):
    """Clients that do not read, streams that stay open, an upload that never ends: all at once."""
    loop = asyncio.get_running_loop()
    async with (
        stalled(server, 5),
        aiohttp.ClientSession(server.url) as session,
        stream(session) as reader,
        stream(session) as other,
    ):
        await reader.next()
        await other.next()
        upload_reader, upload = await asyncio.open_connection("127.0.0.1", server.port)
        upload.write(
            b"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n[{"
        )
        await upload.drain()
        unfinished = asyncio.ensure_future(upload_reader.read())
        await asyncio.sleep(0.05)
        begun = loop.time()
        stopping = asyncio.ensure_future(server.stop())
        await eventually(lambda: not server.home.socket.exists())
        # It stops accepting before anything else; what is open is still being served.
        assert not stopping.done()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        await reader.control("bye")
        await stopping
        assert loop.time() - begun < STOP_SECONDS
        await unfinished
        upload.close()
    assert not is_running(server.home)


async def test_a_request_that_is_being_answered_at_a_stop_gets_its_answer(server):
    async with aiohttp.ClientSession(server.url) as session:
        lines = b"".join(b'{"type": "note.made", "data": {"n": %d}}\n' % n for n in range(2000))
        headers = {"Content-Type": "application/x-ndjson"}
        posting = asyncio.ensure_future(session.post("/api/events", data=lines, headers=headers))
        await eventually(lambda: server.hub.state.head > 0)
        await server.stop()
        async with await posting as answer:
            body = await answer.json()
    if answer.status == 200:
        assert len(body["accepted"]) == 2000
    else:
        assert body["error"]["code"] == "shutting_down"


async def test_whoever_is_still_connected_during_a_stop_is_refused_with_a_code(server):

    async def post(session):
        async with session.post("/api/events", json={"type": "note.made"}) as answer:
            return answer.status, await answer.json()

    async with stalled(server, 1), aiohttp.ClientSession(server.url) as session:
        assert (await post(session))[0] == 200
        stopping = asyncio.ensure_future(server.stop())
        await eventually(lambda: not server.home.socket.exists())
        status, body = await post(session)
        assert (status, body["error"]["code"]) == (503, "shutting_down")
        with pytest.raises(ShuttingDown):
            await server.broadcast("note.made", {})
        await stopping


async def test_a_handler_that_hangs_does_not_hold_up_a_stop(server):
    hanging = asyncio.Event()

    async def hang(*_):
        hanging.set()
        await asyncio.Event().wait()

    server.event_bus.subscribe("*", hang)
    server.register_handler("hang", hang)
    async with client(server) as sio:
        await sio.emit("hang", {})
        await server.broadcast("note.made", {})
        server.event_bus.emit_sync("local.only", {})
        await hanging.wait()
        async with asyncio.timeout(STOP_SECONDS):
            await server.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("event bus")]


@pytest.mark.requires("linux")
@pytest.mark.parametrize("by", ["bus", "client"])
async def test_a_handler_may_stop_the_server(home, by):
    await asyncio.to_thread(int)
    before = traces()
    server = ClaudeLoopWebSocketServer(port=0)
    stopped = asyncio.Event()

    async def stop(*_):
        await server.stop()
        stopped.set()

    server.event_bus.once("prd.completed", stop)
    server.register_handler("stop", stop)
    await server.start()
    async with client(server) as sio:
        if by == "bus":
            await server.send_to_prd_subscribers("PRD-001", "prd.completed", {"success": True})
        else:
            await sio.emit("stop", {})
        await asyncio.wait_for(stopped.wait(), STOP_SECONDS)
    await eventually(lambda: traces() == before)
    assert not is_running(Home(home))
    await server.start()
    await server.stop()


async def test_nothing_is_published_through_a_server_that_does_not_run(server):
    await server.stop()
    for publish in (server.broadcast("a.b", {}), server.send_to_prd_subscribers("P", "a.b", {})):
        with pytest.raises(ShuttingDown):
            await publish
    assert await server.send_to_client("sid", "a.b", {}) is False


async def test_it_belongs_to_the_event_loop_that_started_it(server):
    with pytest.raises(NotSupported, match="another event loop"):
        await asyncio.to_thread(asyncio.run, server.broadcast("note.made", {}))
    assert await stored(server) == []


async def test_it_may_run_in_a_thread_of_its_own(home):
    def run():
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(server.run_forever())

    server = ClaudeLoopWebSocketServer(port=0)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        await eventually(lambda: Home(home).daemon_json.exists() or not thread.is_alive())
        publishing = asyncio.run_coroutine_threadsafe(server.broadcast("note.made", {}), server._loop)
        assert await asyncio.wrap_future(publishing) == 1
        async with aiohttp.ClientSession(server.url) as session, session.get("/health") as answer:
            assert answer.status == 200
    finally:
        for task in asyncio.all_tasks(server._loop):
            if task.get_coro().__name__ == "run_forever":
                server._loop.call_soon_threadsafe(task.cancel)
        await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert not is_running(Home(home))
