"""Event streams: what they carry, where they begin, how they end, and what a reader costs that does not read."""

import asyncio
import gc
import json
import socket
import struct

import pytest

from claude_loop.errors import StorageFailed
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.progress.projection import ProgressProjection
from claude_loop.subscription import Start
from claude_loop.supervision import TaskOwner
from claude_loop.transports.sse import SseTiming
from tests.http_rig import serving
from tests.sse_client import stream
from tests.support import PATIENCE, eventually

QUICK = SseTiming(ping=0.15, write_timeout=0.3, sweep=0.05)


async def test_a_stream_begins_with_its_position_and_how_long_to_wait_before_reconnecting():
    async with serving() as rig:
        await rig.emit_many(3)
        async with stream(rig.session) as reader:
            first = await reader.next()
            assert (first.event, first.data, first.retry) == ("", "", 1000)
            assert first.id == str(rig.hub.state.head_cursor)
            assert reader.answer.headers["Cache-Control"] == "no-store"


async def test_each_event_is_one_message_with_its_stored_json_and_the_cursor_behind_it():
    async with serving() as rig, stream(rig.session) as reader:
        await reader.next()
        sent = await rig.emit("story.started", story_id="US-001", data={"text": 'line\nbreak "quoted" é 🎈'})
        message = await reader.next()
        assert message.data == sent.json
        assert message.event == ""
        assert message.id == str(rig.hub.state.head_cursor)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("now", []),
        ("start", [1, 2, 3, 4, 5]),
        ("last:2", [4, 5]),
        ('{"last": 3}', [3, 4, 5]),
        ("last:0", []),
        ("since:1970-01-01T00:00:00Z", [1, 2, 3, 4, 5]),
        ("since:2999-01-01T00:00:00Z", []),
        ('{"since": 0}', [1, 2, 3, 4, 5]),
        ("since:0.5", [1, 2, 3, 4, 5]),
    ],
)
async def test_where_a_stream_begins(start, expected):
    async with serving() as rig:
        await rig.emit_many(5)
        async with stream(rig.session, from_=start) as reader:
            live = await rig.emit()
            seen = await reader.events(len(expected) + 1)
            assert [event["seq"] for event in seen] == [*expected, live.seq]


async def test_a_cursor_in_the_url_or_in_the_header_resumes_and_the_header_wins():
    async with serving() as rig:
        await rig.emit_many(4)
        second, third = [str(await rig.hub.cursor_at(seq)) for seq in (2, 3)]
        async with stream(rig.session, from_=second) as reader:
            assert [event["seq"] for event in await reader.events(2)] == [3, 4]
        async with stream(rig.session, from_=second, last_event_id=third) as reader:
            assert [event["seq"] for event in await reader.events(1)] == [4]
        async with stream(rig.session, from_="start", last_event_id="") as reader:
            assert (await reader.event())["seq"] == 1


async def test_filters_are_alternatives_within_a_parameter_and_hold_together():
    async with serving() as rig, stream(rig.session, prd_id=["A", "B"], type="story.*") as reader:
        await reader.next()
        await rig.emit("story.started", "A", story_id="1")
        await rig.emit("story.started", "C", story_id="2")
        await rig.emit("test.run", "A", story_id="3")
        await rig.emit("story.completed", "B", story_id="4")
        assert [event["story_id"] for event in await reader.events(2)] == ["1", "4"]


async def test_a_replay_that_matches_nothing_says_at_once_where_it_ended():
    async with serving() as rig:
        await rig.emit_many(700)
        async with stream(rig.session, from_="start", type="nothing.*") as reader:
            assert (await reader.next()).id == str(rig.hub.state.trimmed_cursor)
            end = await reader.next()
            assert (end.data, end.id) == ("", str(rig.hub.state.head_cursor))


async def test_a_quiet_stream_pings_and_its_position_moves_on_past_what_it_does_not_want():
    async with serving(sse=QUICK) as rig, stream(rig.session, prd_id="MINE") as reader:
        opening = await reader.next()
        ping = await reader.next()
        assert (ping.comments, ping.id, ping.data) == (["ping"], None, "")
        await rig.emit(prd_id="OTHER")
        while (moved := await reader.next()).id is None:
            pass
        assert moved.comments == ["ping"]
        assert moved.id == str(rig.hub.state.head_cursor) != opening.id


async def test_pings_come_also_while_events_pass_that_nobody_wants():
    async with serving(sse=QUICK) as rig, stream(rig.session, prd_id="MINE") as reader:
        await reader.next()

        async def flood():
            while True:
                await rig.emit(prd_id="OTHER")
                await asyncio.sleep(0)

        flooding = TaskOwner("test").spawn(flood(), "flood")
        try:
            for _ in range(3):
                assert (await reader.next()).comments == ["ping"]
        finally:
            flooding.cancel()


@pytest.mark.parametrize("reason", ["epoch", "ahead", "diverged"])
async def test_an_unusable_cursor_is_told_as_a_reset_and_the_stream_goes_on_at_the_head(reason):
    async with serving() as rig:
        await rig.emit_many(3)
        epoch, digest = rig.hub.state.epoch, "0" * 10
        cursor = {
            "epoch": f"{'f' * 16}.2.{digest}",
            "ahead": f"{epoch}.99.{digest}",
            "diverged": f"{epoch}.2.{digest}",
        }[reason]
        async with stream(rig.session, last_event_id=cursor) as reader:
            message = await reader.next()
            head = str(rig.hub.state.head_cursor)
            assert (message.event, message.id, message.json) == ("reset", head, {"reason": reason, "cursor": head})
            assert (await rig.emit()).seq == (await reader.event())["seq"] == 4


async def test_after_pruning_a_resumed_stream_is_reset_and_goes_on_at_the_oldest_event():
    async with serving() as rig:
        await rig.emit_many(10)
        old = str(await rig.hub.cursor_at(2))
        await rig.hub.log.prune(0, 4, 100)
        async with stream(rig.session, last_event_id=old) as reader:
            assert (await reader.next()).json == {"reason": "trimmed", "cursor": str(rig.hub.state.trimmed_cursor)}
            assert [event["seq"] for event in await reader.events(4)] == [7, 8, 9, 10]


async def test_a_reader_overtaken_by_pruning_is_told_in_the_middle_of_its_stream():
    async with serving() as rig:
        filler = "x" * 20_000
        for n in range(600):  # 12 MB: more than the kernel takes for a reader that reads nothing
            await rig.emit(data={"n": n, "filler": filler})
        connection = _connect(rig, "from=start", window=262_144)
        try:
            await eventually(lambda: _lag(rig) not in (None, 600))
            lag = await _settled(lambda: _lag(rig))
            assert 5 < lag < 600
            await rig.hub.log.prune(0, 5, 1000)
            text = await _read_until(connection, b'"seq":600')
        finally:
            connection.close()
        assert b"event: reset\nid: " in text
        assert b'"reason":"trimmed"' in text
        seen = [int(part.split(b",")[0]) for part in text.split(b'data: {"seq":')[1:]]
        assert seen == sorted(set(seen))
        assert seen[-5:] == [596, 597, 598, 599, 600]


async def test_a_reader_that_does_not_read_is_cut_off_in_bounded_memory_and_slows_nobody():
    # Long enough for the other reader, which shares this loop, on a loaded machine.
    async with serving(sse=SseTiming(write_timeout=1.5, sweep=0.05)) as rig:
        connection = _connect(rig, "from=now")
        try:
            await eventually(lambda: rig.sse.statistics()["clients"] == 1)
            async with stream(rig.session) as healthy:
                await healthy.next()
                filler = "x" * 30_000
                reading = asyncio.ensure_future(healthy.events(400))
                for n in range(400):
                    await rig.emit(data={"n": n, "filler": filler})
                seen = await reading
                assert [event["data"]["n"] for event in seen] == list(range(400))
                await eventually(lambda: rig.sse.statistics()["cut_off"] == 1)
                assert rig.sse.statistics()["clients"] == 1
        finally:
            connection.close()


async def test_a_reader_that_has_left_is_counted_no_more_though_nobody_has_swept():
    async with serving(sse=SseTiming(ping=PATIENCE * 10, sweep=PATIENCE * 10)) as rig:
        connection = _connect(rig, "from=now")
        await eventually(lambda: rig.sse.statistics()["clients"] == 1)
        connection.close()
        await eventually(lambda: rig.sse.statistics()["clients"] == 0)


async def test_a_reader_that_is_cut_while_it_is_written_to_is_no_failure(capsys):
    async with serving() as rig:
        connection = _connect(rig, "from=start")
        await eventually(lambda: rig.sse.statistics()["clients"] == 1)
        for _ in range(200):
            await rig.emit(data={"filler": "x" * 30_000})
        assert await _settled(lambda: _lag(rig)) > 0  # a write waits
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # with a reset
        await eventually(lambda: rig.sse.statistics()["clients"] == 0)
    assert "background task failed" not in "".join(capsys.readouterr())


async def test_what_is_written_for_a_stalled_reader_stays_small():
    async with serving() as rig:
        connection = _connect(rig, "from=start")
        try:
            filler = "x" * 30_000
            await eventually(lambda: rig.sse.statistics()["clients"] == 1)
            (open_stream,) = rig.sse._streams
            for n in range(400):  # 12 MB
                await rig.emit(data={"n": n, "filler": filler})
            transport = open_stream._request.transport
            await _settled(transport.get_write_buffer_size)
            assert transport.get_write_buffer_size() < 400_000
        finally:
            connection.close()


async def test_a_reader_that_goes_away_in_silence_is_noticed_without_an_event():
    async with serving(sse=SseTiming(sweep=0.05)) as rig:
        connection = _connect(rig, "from=now")
        await eventually(lambda: rig.sse.statistics()["clients"] == 1)
        connection.close()
        await eventually(lambda: rig.sse.statistics()["clients"] == 0)
        assert rig.sse.statistics()["cut_off"] == 0
        await eventually(lambda: len(rig.sse._tasks) == 0)


async def test_at_the_end_every_reader_is_told_to_come_back_and_new_ones_are_refused():
    async with serving() as rig:
        async with stream(rig.session) as reader:
            await reader.next()
            await rig.sse.close()
            message = await reader.next()
            assert (message.event, message.json) == ("bye", {"reconnect_after": 1.0})
            with pytest.raises(EOFError):
                await reader.next()
        refusal = await rig.refusal("/api/events/stream")
        assert (refusal["status"], refusal["code"]) == (503, "shutting_down")


async def test_a_stream_that_opens_while_the_server_stops_is_ended_too():
    async with serving() as rig:
        subscribe = rig.hub.subscribe

        async def subscribe_slowly(*arguments):
            await rig.sse.close()
            return await subscribe(*arguments)

        rig.hub.subscribe = subscribe_slowly
        async with stream(rig.session) as reader:
            assert (await reader.next()).event == "bye"
            with pytest.raises(EOFError):
                await reader.next()


async def test_a_log_that_cannot_be_read_ends_the_stream_with_a_goodbye():
    class Unreadable(MemoryEventLog):
        broken = False

        async def read(self, *args, **options):
            if self.broken:
                raise StorageFailed("The event log cannot be read: disk on fire.")
            return await super().read(*args, **options)

    log = Unreadable(ProgressProjection())
    async with serving(log) as rig:
        await rig.emit_many(5)
        rig.hub._ring.clear()
        log.broken = True
        async with stream(rig.session, from_="start") as reader:
            assert (await reader.control("bye")).data
            with pytest.raises(EOFError):
                await reader.next()


async def test_readers_that_start_apart_share_the_encoded_frames():
    async with serving() as rig:
        await rig.emit_many(600)
        async with stream(rig.session, from_="start") as one, stream(rig.session, from_="last:590") as two:
            assert len(await one.events(600)) == 600
            assert len(await two.events(590)) == 590
        shared = [future.result() for future in rig.hub._batches.values() if future.done()]
        assert any("sse" in batch.encoded for batch in shared)
        # Five batches each; after two of its own the second reader has come to the boundaries of the first.
        assert len(shared) <= 7


async def test_status_shows_who_reads_what_and_how_far_behind():
    async with serving() as rig, stream(rig.session, prd_id=["A", "B"]) as reader:
        await reader.next()
        (shown,) = rig.sse.statistics()["readers"]
        assert (shown["principal"], shown["prds"], shown["lag"]) == ("loopback", ["A", "B"], 0)


async def test_head_opens_no_stream():
    async with serving() as rig:
        async with rig.session.head("/api/events/stream") as answer:
            assert answer.status == 405
        assert rig.sse.statistics()["clients"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=tomorrow", "from"),
        ("from=last:-1", "from"),
        ("from=last:9999999", "from.last"),
        ("from=since:yesterday", "from.since"),
        ("from=since:nan", "from.since"),
        ("from={broken", "from"),
        ('from={"last":"x"}', "from.last"),
        ("type=", "type"),
        ("colour=red", "colour"),
        ("from=now&from=start", "from"),
    ],
)
async def test_nonsense_is_refused_by_the_name_of_its_parameter(query, field):
    async with serving() as rig:
        refusal = await rig.refusal(f"/api/events/stream?{query}")
        assert (refusal["status"], refusal["field"]) == (400, field)
        assert rig.sse.statistics()["clients"] == 0


@pytest.mark.parametrize("start", ["yesterday", "last:x", "{"])
async def test_a_start_that_is_none_is_refused_with_those_there_are(start):
    async with serving() as rig:
        refusal = await rig.refusal(f"/api/events/stream?from={start}")
        assert refusal["field"] == "from"
        assert "`last:20`" in refusal["hint"]


async def test_a_last_event_id_that_is_no_cursor_is_refused_by_name():
    async with serving() as rig:
        refusal = await rig.refusal("/api/events/stream", headers={"Last-Event-ID": "42"})
        assert (refusal["code"], refusal["field"]) == ("invalid_cursor", "Last-Event-ID")


async def test_ended_streams_leave_nothing_behind():
    async with serving() as rig:
        for _ in range(20):
            async with stream(rig.session, from_="start") as reader:
                await reader.next()
                reader.answer.close()
        await rig.emit()
        await eventually(lambda: rig.sse.statistics()["clients"] == 0)
        await eventually(lambda: rig.sse._pace.pumps == 0)
        gc.collect()
        opened = await rig.hub.subscribe(start=Start("start"))
        assert opened.subscription.lag == 1


def _connect(rig, query, window=4096):
    """A raw connection with a small window, whose stream is asked for and not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.connect(("127.0.0.1", rig.port))
    connection.sendall(f"GET /api/events/stream?{query} HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\n\r\n".encode())
    connection.setblocking(False)
    return connection


def _lag(rig):
    readers = rig.sse.statistics()["readers"]
    return readers[0]["lag"] if readers else None


async def _settled(measure):
    """A value once it no longer changes."""
    last, since = measure(), 0
    while since < 20:
        await asyncio.sleep(0.01)
        now = measure()
        last, since = (last, since + 1) if now == last else (now, 0)
    return last


async def _read_until(connection, end, seconds=PATIENCE):
    loop = asyncio.get_running_loop()
    text = b""
    async with asyncio.timeout(seconds):
        while end not in text:
            part = await loop.sock_recv(connection, 65_536)
            assert part, text[-500:]
            text += part
    # Chunk sizes stand between the writes; without them the text is as it was written.
    return b"".join(piece for piece in text.split(b"\r\n") if piece and not _is_hex(piece))


def _is_hex(piece):
    try:
        int(piece, 16)
    except ValueError:
        return False
    return len(piece) < 8


def test_the_messages_are_what_the_specification_calls_for():
    from claude_loop.ids import Cursor
    from claude_loop.subscription import Reset
    from claude_loop.transports.sse import sse_bye, sse_reset

    cursor = Cursor("a" * 16, 7, "b" * 10)
    head, data, *end = sse_reset(Reset("trimmed", cursor)).decode().split("\n")[1:]
    assert head == f"id: {cursor}"
    assert json.loads(data.removeprefix("data: ")) == {"reason": "trimmed", "cursor": str(cursor)}
    assert end == ["", ""]
    assert sse_bye().endswith(b"\n\n")
