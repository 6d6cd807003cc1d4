"""Publishing, commands and bad input over Socket.IO: each answer, and that the connection stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from claude_loop.errors import ClaudeLoopError, StorageFull
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.base import Appended
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.hub import Hub
from claude_loop.settings import LimitSettings, Settings
from claude_loop.transports.wire import message
from tests.support import eventually
from tests.unit.transports.socketio_rig import TOKEN, Clients, Rig, serving


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving() as running:
        yield running


async def works(client: Any, ack: int = 999) -> None:
    """The connection still takes and answers."""
    answer = await client.call("event", {"type": "still.there"}, ack=ack)
    assert answer["seq"] > 0


async def test_publish_is_answered_when_stored(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    event = {"id": "e-1", "type": "story.started", "prd_id": "PRD-001", "story_id": "US-001", "data": {"k": "é"}}
    assert await client.call("event", event) == {"id": "e-1", "seq": 1, "duplicate": False}
    assert await client.call("event", event) == {"id": "e-1", "seq": 1, "duplicate": True}
    conflict = await client.call("event", {**event, "data": {"k": "other"}})
    assert conflict["error"]["code"] == "id_conflict"
    page = await rig.hub.log.read(0, 10)
    assert [stored.id for stored in page.events] == ["e-1"]
    assert page.events[0].source == "socketio"
    assert page.events[0].data["status"] == "in_progress"
    assert rig.transport.statistics()["published"] == 1


async def test_order_of_one_client_is_the_order_in_the_log(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    for n in range(200):
        await client.send("event", {"id": f"e-{n}", "type": "note.made"}, ack=n)
    answers = [await client.next() for _ in range(200)]
    assert [payload["seq"] for _, payload in answers] == list(range(1, 201))
    assert [name for name, _ in answers] == [f"ack {n}" for n in range(200)]


@pytest.mark.parametrize(
    ("name", "payload", "code", "field"),
    [
        ("event", None, "invalid_event", None),
        ("event", [], "invalid_event", None),
        ("event", {}, "invalid_event", "type"),
        ("event", {"type": "Not A Type"}, "invalid_event", "type"),
        ("event", {"type": "x.y", "colour": "red"}, "unknown_field", "colour"),
        ("event", {"type": "x.y", "prd_id": 7}, "invalid_event", "prd_id"),
        ("event", {"type": "story.started"}, "invalid_event", "data.story_id"),
        ("event", {"type": "x.y", "data": {"n": [10**30]}}, "invalid_event", "data.n.0"),
        ("subscribe", {"from": {"last": 10**30}}, "invalid_cursor", "from.last"),
        ("subscribe", "PRD-001", "invalid_request", None),
        ("subscribe", {"filters": {}}, "invalid_request", "filters"),
        ("subscribe", {"filter": {"colour": ["red"]}}, "invalid_filter", "filter.colour"),
        ("subscribe", {"filter": {"types": [1]}}, "invalid_filter", "filter.types"),
        ("subscribe", {"from": "nowhere"}, "invalid_cursor", "from"),
        ("subscribe", {"from": {"last": -1}}, "invalid_cursor", "from.last"),
        ("subscribe", {"max_batch": 0}, "invalid_request", "max_batch"),
        ("subscribe_prd", {}, "invalid_request", "prd_id"),
        ("subscribe_prd", {"prd_id": ["a"]}, "invalid_request", "prd_id"),
        ("subscribe_prd", {"prd_id": 10**30}, "invalid_request", "prd_id"),
        ("event", {"type": "a.b", "prd_id": 10**30}, "invalid_event", "prd_id"),
        ("subscribe_prd", {"prd_id": "a", "history": 1001}, "invalid_request", "history"),
        ("subscribe_prd", {"prd_id": "a", "history": True}, "invalid_request", "history"),
        ("unsubscribe_prd", {}, "invalid_request", "prd_id"),
        ("control_prd", {"action": "stop", "prd_id": "a"}, "not_supported", None),
        ("no_such_thing", {}, "not_supported", None),
    ],
)
async def test_bad_input_is_answered_and_the_connection_stays(
    rig: Rig, clients: Clients, name: str, payload: Any, code: str, field: str | None
) -> None:
    client = await clients.join()
    answer = await client.call(name, payload, ack=3)
    assert answer["ok"] is False
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]
    assert answer["error"]["hint"]
    if field is not None:
        assert answer["error"]["field"] == field
    await client.send(name, payload)
    assert await client.next() == ("error", answer["error"]), "without an answer asked for, it is a message"
    assert rig.transport.refused[code] == 2
    assert rig.hub.state.head == 0, "nothing was stored"
    await works(client)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        ('42["event",{"type":"x.y"', "invalid_json"),
        ('42["event",{"type":"x.y","data":{"n":NaN}}]', "invalid_json"),
        ('42["event",{"type":"x.y","data":{"s":"\\ud800"}}]', "invalid_json"),
        ("42" + "[" * 100_000, "invalid_json"),
        ("42", "invalid_request"),
        ("42[]", "invalid_request"),
        ("42[1,2]", "invalid_request"),
        ('42{"event":1}', "invalid_request"),
        ('42["event",{},{}]', "invalid_request"),
        ("42" + "9" * 150 + '["event",{}]', "invalid_json"),
        ('451-["event",{"_placeholder":true,"num":0}]', "invalid_request"),
        ('4599999999-["event",{}]', "invalid_request"),
    ],
)
async def test_malformed_packets(rig: Rig, clients: Clients, packet: str, code: str) -> None:
    client = await clients.join()
    await client.websocket.send_str(packet)
    error = await client.until("error")
    assert error["code"] == code
    assert error["hint"]
    await works(client)


async def test_binary_is_refused_and_nothing_of_it_is_kept(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    await client.websocket.send_str('453-7["event",{"_placeholder":true,"num":0}]')
    assert (await client.until("ack 7"))["error"]["code"] == "invalid_request"
    for _ in range(3):
        await client.websocket.send_bytes(b"\0" * 100_000)
        assert (await client.until("error"))["code"] == "invalid_request"
    assert rig.transport._server._binary_packet == {}
    await works(client)


@pytest.mark.parametrize("packet", ["", "x", "7", "4x", '4{"a":1}', "4" + "[" * 5000, "3" + "[" * 5000, "é"])
async def test_what_is_no_engineio_packet_ends_the_session_in_order(rig: Rig, clients: Clients, packet: str) -> None:
    client = await clients.join()
    await client.websocket.send_str(packet)
    with pytest.raises(EOFError):
        await client.until("nothing")
    await eventually(lambda: not rig.transport.clients and not rig.engine.open_sessions())


@pytest.mark.parametrize("body", [b"\xff\xfe4", b"x", b"", b"42[]\x1e\x1e", b'4{"a":1}'])
async def test_polling_bodies_that_are_none(rig: Rig, clients: Clients, body: bytes) -> None:
    url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
    opened = orjson.loads((await (await clients.http.get(url)).text())[1:])
    url += f"&sid={opened['sid']}"
    head = {"Content-Type": "text/plain"}
    assert (await clients.http.post(url, data=b"40", headers=head)).status == 200
    refused = await clients.http.post(url, data=body, headers=head)
    assert refused.status == 400
    assert (await refused.json())["error"]["code"] == "invalid_request"
    assert (await clients.http.post(url, data=b'427["event",{"type":"x.y"}]', headers=head)).status == 200
    text = ""
    while '"seq":1' not in text:
        text += await (await clients.http.get(url)).text()


async def test_many_packets_in_one_polling_body(rig: Rig, clients: Clients) -> None:
    """Engine.IO's own reader of such a body takes 16, loses all when there are more, and says ok."""
    url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={orjson.loads((await (await clients.http.get(url)).text())[1:])['sid']}"
    packets = ["40", *(f'42{n}["event",{{"type":"x.y","id":"e-{n}"}}]' for n in range(100))]
    head = {"Content-Type": "text/plain"}
    assert (await clients.http.post(url, data="\x1e".join(packets).encode(), headers=head)).status == 200
    await eventually(lambda: rig.hub.state.head == 100)
    rounds: list[int] = []
    while sum(rounds) < 102:  # the namespace's answer, `connected`, 100 answers
        rounds.append((await (await clients.http.get(url)).text()).count("\x1e") + 1)
    assert max(rounds) <= 16, "more in one response end the Python client's session"


async def test_body_limit() -> None:
    async with (
        serving(settings=Settings(port=0, limits=LimitSettings(body_bytes=2000))) as rig,
        Clients(rig) as clients,
    ):
        client = await clients.join()
        assert client.greeting["maxPayload"] == 2000
        await client.websocket.send_str('42["event","' + "x" * 3000 + '"]')
        with pytest.raises(EOFError):
            await client.until("nothing")
        url = f"{rig.url}/socket.io/?EIO=4&transport=polling"
        url += f"&sid={orjson.loads((await (await clients.http.get(url)).text())[1:])['sid']}"

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"4" * 1000

        refused = await clients.http.post(url, data=endless(), headers={"Content-Type": "text/plain"})
        assert refused.status == 413
        assert (await refused.json())["error"]["code"] == "too_large"


class SlowLog(MemoryEventLog):
    """Answers when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[asyncio.Future[list[Appended]], asyncio.Future[list[Appended]]]] = []

    def append(self, events: Any) -> asyncio.Future[list[Appended]]:
        outcome: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        self.held.append((outcome, super().append(events)))
        return outcome

    def release(self, failure: BaseException | None = None) -> None:
        for outcome, stored in self.held:
            if failure is None:
                outcome.set_result(stored.result())
            else:
                outcome.set_exception(failure)
        self.held.clear()


async def test_too_many_in_flight_are_busy() -> None:
    log = SlowLog()
    hub = Hub(log, EventBus())
    await hub.start()
    limits = LimitSettings(in_flight=5)
    async with serving(hub=hub, settings=Settings(port=0, limits=limits)) as rig, Clients(rig) as clients:
        client = await clients.join()
        for n in range(8):
            await client.send("event", {"type": "x.y", "id": f"e-{n}"}, ack=n)
        for n in (5, 6, 7):
            name, answer = await client.next()
            assert (name, answer["error"]["code"]) == (f"ack {n}", "busy")
        log.release()
        assert [(await client.next())[1]["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
        await client.send("event", {"type": "x.y"}, ack=9)
        await eventually(lambda: log.held)
        log.release(StorageFull("The disk is full."))
        assert (await client.until("ack 9"))["error"]["code"] == "storage_full"
        await client.send("event", {"type": "x.y"}, ack=10)
        await eventually(lambda: log.held)
        log.release(ValueError("a defect"))
        assert (await client.until("ack 10"))["error"]["code"] == "internal"
        assert rig.transport.statistics()["readers"][0]["in_flight"] == 0
    await hub.stop()


async def test_rate_limit() -> None:
    settings = Settings(port=0, limits=LimitSettings(events_per_second=10))
    async with serving(settings=settings) as rig, Clients(rig) as clients:
        client = await clients.join()
        for n in range(30):
            await client.send("event", {"type": "x.y"}, ack=n)
        answers = [(await client.next())[1] for _ in range(30)]
        stored = sum("seq" in answer for answer in answers)
        assert 10 <= stored < 20
        assert {answer["error"]["code"] for answer in answers if "error" in answer} == {"rate_limited"}


async def test_refused_publishes_are_shown_to_whoever_keeps_them() -> None:
    seen: list[tuple[str, object]] = []

    def keep(error: ClaudeLoopError, raw: object) -> None:
        seen.append((error.code, raw))

    async with serving(on_rejected=keep) as rig, Clients(rig) as clients:
        client = await clients.join()
        await client.call("event", {"type": "x.y", "nonsense": 1})
        assert seen == [("unknown_field", {"type": "x.y", "nonsense": 1})]


async def test_control_needs_its_right_and_gets_a_result() -> None:
    calls: list[tuple[str, Any]] = []

    async def control(sid: str, payload: Any) -> Any:
        calls.append((sid, payload))
        if payload["action"] == "break":
            raise ZeroDivisionError
        return {"done": True}

    async with serving(handlers={"control_prd": control}) as rig, Clients(rig) as clients:
        stranger = await clients.join()
        refused = await stranger.call("control_prd", {"action": "stop", "prd_id": "P"})
        assert refused["error"]["code"] == "forbidden"
        assert calls == []
        client = await clients.join({"token": TOKEN})
        await client.send("control_prd", {"action": "stop", "prd_id": "P", "why": "test"})
        result = {"action": "stop", "prd_id": "P", "result": {"done": True}}
        assert await client.next() == ("control_result", result)
        assert calls[0][1]["why"] == "test"
        await client.send("control_prd", {"action": "break", "prd_id": "P"})
        assert (await client.until("error"))["code"] == "internal"
        await client.send("control_prd", {"prd_id": "P"})
        assert (await client.until("error"))["field"] == "action"
        await works(client)


async def test_handlers_of_an_embedding_program(rig: Rig, clients: Clients) -> None:
    rig.transport.handlers["greet"] = lambda _sid, payload: f"hello {payload}"
    client = await clients.join()
    assert await client.call("greet", "you") == "hello you"
    (sid,) = rig.transport.clients
    assert rig.transport.send_to_client(sid, "greeting", {"n": 1})
    assert await client.next() == ("greeting", {"n": 1})
    assert not rig.transport.send_to_client("nobody", "greeting", {})


async def test_wrong_auth_is_refused(rig: Rig, clients: Clients) -> None:
    for auth, code in [
        ({"token": "wrong"}, "unauthorized"),
        ({"token": 7}, "unauthorized"),
        (["a"], "invalid_request"),
        ("a", "invalid_request"),
        ({"subscribe": {"filter": 1}}, "invalid_filter"),
        ({"subscribe": {"from": "?"}}, "invalid_cursor"),
        ({"subscribe": []}, "invalid_request"),
    ]:
        client = await clients.open(auth)
        name, refusal = await client.next()
        assert (name, refusal["data"]["code"]) == ("44", code), auth
        await client.close()
    assert rig.transport.clients == set()
    assert await clients.join({}), "an empty auth counts for what the connection counts for"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
requests = st.builds(
    lambda name, fields, noise: [name, {**noise, **fields} if isinstance(noise, dict) else noise],
    st.sampled_from(["event", "subscribe", "subscribe_prd", "unsubscribe_prd", "control_prd", "other", ""]),
    st.dictionaries(
        st.sampled_from(["type", "data", "prd_id", "project", "history", "filter", "from", "max_batch", "id"]),
        json_values,
        max_size=4,
    ),
    json_values,
)


async def test_any_json_is_answered() -> None:
    """Whatever a client sends as an event: exactly one answer, success or an error with code, and it goes on."""
    async with serving() as rig, Clients(rig) as clients:
        client = await clients.join({"subscribe": {"filter": {"types": ["never.ever"]}}})
        examples: list[list[Any]] = []

        @hypothesis_settings(suppress_health_check=list(HealthCheck), database=None)
        @given(requests)
        def collect(request: list[Any]) -> None:
            examples.append(request)

        collect()
        for number, (name, payload) in enumerate(examples):
            await client.websocket.send_str(f"42{number}" + message(name, payload)[2:].decode())
            answer = await client.until(f"ack {number}")
            assert isinstance(answer, dict)
            if answer.get("ok", "seq" in answer) is False:
                assert answer["error"]["code"] != "internal"
                assert answer["error"]["message"]
        await works(client, ack=100_000)
