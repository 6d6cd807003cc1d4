"""What readers over Socket.IO get: greeting, live events, `subscribe`, `subscribe_prd`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from claude_loop.settings import RetentionSettings, Settings
from claude_loop.transports.pace import PumpTiming
from tests.support import eventually
from tests.unit.transports.socketio_rig import TOKEN, Clients, Packets, Rig, serving


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving(timing=PumpTiming(quiet=0.3)) as running:
        yield running


async def seqs(client: Packets, count: int) -> list[int]:
    """The ``seq`` of the next ``count`` events, single or in frames, checking that frames join."""
    got: list[int] = []
    while len(got) < count:
        name, payload = await client.next()
        if name == "event":
            got.append(payload["seq"])
        elif name == "events":
            got += [event["seq"] for event in payload["events"]]
    return got


async def test_greeting_has_where_the_log_stands(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(3)
    client = await clients.open()
    name, payload = await client.next()
    assert name == "40", "the namespace's own answer comes first"
    name, greeting = await client.next()
    assert name == "connected"
    state = rig.hub.state
    assert greeting == {
        "sid": payload["sid"],
        "epoch": state.epoch,
        "first": 1,
        "head": 3,
        "cursor": str(state.head_cursor),
        "retention": {"days": RetentionSettings().days, "events": RetentionSettings().events},
        "version": "0.0.0",
    }
    assert rig.transport.clients == {payload["sid"]}
    await client.close()
    await eventually(lambda: not rig.transport.clients)


async def test_who_never_subscribed_sees_every_event_live(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(2)
    client = await clients.join()
    sent = [await rig.emit(prd_id="PRD-001"), await rig.emit(prd_id=None), await rig.emit(prd_id="PRD-002")]
    for event in sent:
        assert await client.next() == ("event", event.as_dict())


async def test_publisher_is_no_onlooker(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    assert (await client.call("event", {"type": "note.made"}))["seq"] == 1
    await rig.emit()
    await client.nothing_for(0.15)
    assert [name for name, _ in client.seen if name == "event"] == []


async def test_subscribe_replays_then_follows(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(600)
    client = await clients.join()
    answer = await client.call("subscribe", {"filter": {}, "from": "start"})
    assert answer["ok"] is True
    assert answer["status"] == "fresh"
    cursor = answer["cursor"]
    got: list[int] = []
    while len(got) < 610:
        name, frame = await client.next()
        assert name == "events"
        assert frame["sub"] == answer["sub"]
        assert frame["prev"] == cursor, "a gap, or a repetition"
        assert len(frame["events"]) <= 256
        cursor = frame["upto"]
        got += [event["seq"] for event in frame["events"]]
        if len(got) == 600:
            await rig.emit_many(10)
    assert got == list(range(1, 611))
    assert cursor == str(rig.hub.state.head_cursor)


async def test_answer_comes_before_the_first_events(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(5)
    client = await clients.join()
    for attempt in range(20):
        await client.send("subscribe", {"from": "start"}, ack=attempt)
        before = len(client.seen)
        await client.until(f"ack {attempt}")
        await client.until("events")
        names = [name for name, _ in client.seen[before:]]
        assert names == [f"ack {attempt}", "events"]


async def test_answer_precedes_events_while_events_pour_in(rig: Rig, clients: Clients) -> None:
    client = await clients.join({"subscribe": {"filter": {"types": ["nothing.ever"]}}})
    for attempt in range(10):
        await client.send("subscribe", {"from": {"last": 3}}, ack=attempt)
        await rig.emit_many(7)
        answer = await client.until(f"ack {attempt}")
        frame = await client.until("events")
        assert frame["prev"] == answer["cursor"]


async def test_filter_and_quiet_cursor(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    answer = await client.call("subscribe", {"filter": {"types": ["story.*"], "prd_ids": ["PRD-001"]}})
    await rig.emit("note.made")
    await rig.emit("story.told", prd_id="PRD-002")
    at = answer["cursor"]
    while at != str(rig.hub.state.head_cursor):  # in two steps where the second event was late
        name, frame = await client.next()
        assert (name, frame["events"], frame["prev"]) == ("events", [], at), "the quiet subscription's cursor moves"
        at = frame["upto"]
    wanted = await rig.emit("story.told")
    name, frame = await client.next()
    assert [event["id"] for event in frame["events"]] == [wanted.id]
    assert frame["prev"] == str(await rig.hub.cursor_at(2))
    await client.nothing_for(0.5)  # nothing moved since: nothing is said


async def test_quiet_cursor_moves_under_a_steady_stream_of_other_events(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    await client.call("subscribe", {"filter": {"types": ["story.*"]}})

    async def busy() -> bool:
        await rig.emit("note.made")
        return any(name == "events" for name, _ in client.seen)

    async with asyncio.TaskGroup() as tasks:
        told = tasks.create_task(client.until("events"))
        await eventually(busy)
    assert told.result()["events"] == []


async def test_equal_filters_share_frames(rig: Rig, clients: Clients) -> None:
    one, two, other = await clients.join(), await clients.join(), await clients.join()
    first = await one.call("subscribe", {"filter": {"prd_ids": ["B", "A"]}})
    second = await two.call("subscribe", {"filter": {"prd_ids": ["A", "B"], "types": []}})
    third = await other.call("subscribe", {"filter": {"prd_ids": ["A"]}})
    assert first["sub"] == second["sub"] != third["sub"]
    await rig.emit(prd_id="A")
    assert await one.packet() == await two.packet() != await other.packet()


async def test_resume_gets_each_later_event_once(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    await client.call("subscribe", {})
    await rig.emit_many(3)
    frame = await client.until("events")
    await client.close()
    missed = await rig.emit_many(4)
    client = await clients.join()
    answer = await client.call("subscribe", {"from": frame["upto"]})
    assert answer["status"] == "resumed"
    assert answer["cursor"] == frame["upto"]
    expected = list(range(frame["events"][-1]["seq"] + 1, missed[-1].seq + 1))
    assert await seqs(client, len(expected)) == expected


async def test_from_last_since_and_max_batch(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(10)
    client = await clients.join()
    await client.call("subscribe", {"from": {"last": 4}, "max_batch": 3})
    first, second = await client.until("events"), await client.until("events")
    assert [event["seq"] for event in first["events"]] == [7, 8, 9]
    assert [event["seq"] for event in second["events"]] == [10]
    assert first["upto"] == second["prev"]
    answer = await client.call("subscribe", {"from": {"since": "2001-01-01T00:00:00Z"}})
    assert answer["ok"] is True
    assert await seqs(client, 10) == list(range(1, 11))


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        ("0123456789abcdef.1.0123456789", "epoch"),
        ("{epoch}.1.0123456789", "diverged"),
        ("{epoch}.9.0123456789", "ahead"),
    ],
)
async def test_unusable_cursor_is_told(rig: Rig, clients: Clients, cursor: str, reason: str) -> None:
    await rig.emit_many(3)
    client = await clients.join()
    answer = await client.call("subscribe", {"from": cursor.format(epoch=rig.hub.state.epoch)})
    assert (answer["status"], answer["reason"]) == ("reset", reason)
    assert answer["cursor"] == str(rig.hub.state.head_cursor)
    await rig.emit()
    assert (await client.until("events"))["prev"] == answer["cursor"]


async def test_trimmed_while_lagging_is_told(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(5)
    client = await clients.join()
    answer = await client.call("subscribe", {"filter": {"types": ["x.y"]}})
    cursor = answer["cursor"]
    await rig.emit_many(5)
    await client.close()
    await rig.hub.log.prune(0, 2, 100)
    client = await clients.join()
    answer = await client.call("subscribe", {"from": cursor})
    assert (answer["status"], answer["reason"]) == ("reset", "trimmed")
    assert answer["cursor"] == str(rig.hub.state.trimmed_cursor)
    assert await seqs(client, 2) == [9, 10]


async def test_subscribing_at_connect_leaves_no_interval(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(5)
    client = await clients.open({"subscribe": {"filter": {"types": ["note.*"]}, "from": {"last": 2}}})
    assert (await client.next())[0] == "40"
    name, greeting = await client.next()
    assert name == "connected"
    assert greeting["subscription"]["status"] == "fresh"
    name, frame = await client.next()
    assert name == "events"
    assert frame["prev"] == greeting["subscription"]["cursor"]
    assert [event["seq"] for event in frame["events"]] == [4, 5]
    await rig.emit("other.kind")
    assert (await client.next())[1]["events"] == []


async def test_reset_at_connect_is_told(rig: Rig, clients: Clients) -> None:
    await rig.emit()
    client = await clients.open({"token": TOKEN, "subscribe": {"from": "0123456789abcdef.1.0123456789"}})
    greeting = await client.until("connected")
    reset = await client.until("reset")
    assert greeting["subscription"]["reason"] == reset["reason"] == "epoch"
    assert greeting["subscription"]["cursor"] == reset["cursor"] == str(rig.hub.state.head_cursor)
    assert greeting["subscription"]["sub"] == reset["sub"]


async def test_subscribe_prd_announces_then_history_then_live(rig: Rig, clients: Clients) -> None:
    await rig.emit_many(3, prd_id="PRD-001")
    await rig.emit_many(3, prd_id="PRD-002")
    client = await clients.join()
    await client.send("subscribe_prd", {"prd_id": "PRD-001", "history": 2}, ack=5)
    assert await client.next() == ("ack 5", {"ok": True})
    assert await client.next() == ("subscribed", {"prd_id": "PRD-001"})
    assert await seqs(client, 2) == [2, 3]
    sent = [await rig.emit(prd_id=prd) for prd in ("PRD-002", "PRD-001", None)]
    assert await seqs(client, 2) == [sent[1].seq, sent[2].seq]
    (sid,) = rig.transport.clients
    assert rig.transport.subscriptions == {"PRD-001": {sid}}
    await client.close()
    await eventually(lambda: rig.transport.subscriptions == {})


async def test_history_never_doubles_what_was_sent_live(rig: Rig, clients: Clients) -> None:
    """Events keep coming while the client asks: each of its PRD reaches it exactly once."""
    await rig.emit_many(20)
    client = await clients.join()
    for round_ in range(5):
        await rig.emit_many(3)
        await client.send("subscribe_prd", {"prd_id": "PRD-001", "history": 1000})
        await rig.emit_many(3, prd_id="PRD-001" if round_ % 2 else None)
    total = rig.hub.state.head
    got = await seqs(client, total)
    while [name for name, _ in client.seen].count("subscribed") < 5:  # the last one may come after the events
        await client.next()
    await client.nothing_for(0.1)
    assert sorted(got) == list(range(1, total + 1))
    assert [name for name, _ in client.seen].count("event") == total


async def test_several_prds_are_held(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    for prd in ("A", "B", "C"):
        await client.call("subscribe_prd", {"prd_id": prd})
    await client.call("unsubscribe_prd", {"prd_id": "B"})
    assert (await client.until("unsubscribed")) == {"prd_id": "B"}
    sent = [await rig.emit(prd_id=prd) for prd in ("A", "B", "C", None)]
    assert await seqs(client, 3) == [sent[0].seq, sent[2].seq, sent[3].seq]
    await client.call("unsubscribe_prd", {"prd_id": "A"})
    await client.call("unsubscribe_prd", {"prd_id": "C"})
    await client.until("unsubscribed")
    await rig.emit(prd_id="A")
    await rig.emit(prd_id=None)
    await client.nothing_for(0.15)
    assert rig.transport.subscriptions == {}


async def test_star_is_every_prd(rig: Rig, clients: Clients) -> None:
    await rig.emit(prd_id="Z")
    client = await clients.join()
    await client.call("subscribe_prd", {"prd_id": "*", "history": 5})
    sent = [await rig.emit(prd_id=prd) for prd in ("A", None)]
    assert await seqs(client, 3) == [1, sent[0].seq, sent[1].seq]


async def test_prds_of_one_project(rig: Rig, clients: Clients) -> None:
    await rig.emit(project="shop")
    await rig.emit(project="blog")
    client = await clients.join()
    await client.call("subscribe_prd", {"prd_id": "PRD-001", "project": "shop", "history": 9})
    assert await seqs(client, 1) == [1]
    await client.call("subscribe_prd", {"prd_id": "PRD-002"})
    sent = [
        await rig.emit(project="blog"),
        await rig.emit(project="shop"),
        await rig.emit(project="blog", prd_id="PRD-002"),
        await rig.emit(project="blog", prd_id=None),
    ]
    assert await seqs(client, 3) == [event.seq for event in sent[1:]]


async def test_both_ways_at_once(rig: Rig, clients: Clients) -> None:
    client = await clients.join()
    await client.call("subscribe", {"filter": {"types": ["story.*"]}})
    await client.call("subscribe_prd", {"prd_id": "A"}, ack=2)
    await client.until("subscribed")
    story = await rig.emit("story.told", prd_id="B")
    note = await rig.emit("note.made", prd_id="A")
    got = {await self_name(client) for _ in range(2)}
    assert got == {("events", story.seq), ("event", note.seq)}


async def self_name(client: Packets) -> tuple[str, int]:
    name, payload = await client.next()
    return name, payload["seq"] if name == "event" else payload["events"][0]["seq"]


async def test_history_of_large_events_is_not_too_much(rig: Rig, clients: Clients) -> None:
    for n in range(120):
        await rig.emit(data={"text": "x" * 60_000, "n": n})
    client = await clients.join()
    await client.call("subscribe_prd", {"prd_id": "PRD-001", "history": 1000})
    assert await seqs(client, 120) == list(range(1, 121))


async def test_onlooker_without_the_right_to_read() -> None:
    async with serving(settings=Settings(port=0, auth={"loopback": "token"})) as rig, Clients(rig) as clients:
        client = await clients.open()
        name, refusal = await client.next()
        assert name == "44"
        assert refusal["data"]["code"] == "unauthorized"
        assert refusal["data"]["hint"]
        assert rig.transport.clients == set()
        client = await clients.join({"token": TOKEN})
        await rig.emit()
        assert (await client.next())[0] == "event"
