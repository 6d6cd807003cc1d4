"""`POST /api/events`: one, many, lines; what is accepted, what is refused and how it is told."""

import asyncio
import gzip
import json

import orjson
import pytest
from aiohttp import hdrs

from claude_loop.errors import StorageFull
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.progress.projection import ProgressProjection
from claude_loop.transports import http_body
from tests.http_rig import serving
from tests.support import eventually

NDJSON = "application/x-ndjson"
STARTED = {"type": "story.started", "prd_id": "PRD-001", "story_id": "US-001"}


async def test_one_event_is_committed_and_answered_with_its_place():
    async with serving() as rig:
        answer = await rig.post({**STARTED, "id": "mine-1"})
        assert answer == {
            "accepted": [{"index": 0, "id": "mine-1", "seq": 1, "duplicate": False}],
            "rejected": [],
        }
        (stored,) = (await rig.hub.log.read(0, 10)).events
        assert (stored.id, stored.source, stored.data["status"]) == ("mine-1", "http", "in_progress")


async def test_an_event_without_an_id_gets_one():
    async with serving() as rig:
        (accepted,) = (await rig.post(STARTED))["accepted"]
        assert len(accepted["id"]) == 26


async def test_the_senders_source_is_kept():
    async with serving() as rig:
        await rig.post({**STARTED, "source": "ci"})
        assert (await rig.hub.log.read(0, 1)).events[0].source == "ci"


async def test_a_repetition_answers_the_first_place_and_other_content_is_a_conflict():
    async with serving() as rig:
        event = {**STARTED, "id": "e1", "data": {"n": 1}}
        await rig.post(event)
        await rig.post({**STARTED, "id": "e2"})
        assert (await rig.post(event))["accepted"] == [{"index": 0, "id": "e1", "seq": 1, "duplicate": True}]
        answer = await rig.post([event, {**event, "data": {"n": 2}}, {**STARTED, "id": "e3"}])
        assert [(e["index"], e["seq"]) for e in answer["accepted"]] == [(0, 1), (2, 3)]
        (rejected,) = answer["rejected"]
        assert (rejected["index"], rejected["code"], rejected["field"]) == (1, "id_conflict", "id")
        assert rig.hub.state.head == 3


async def test_an_array_keeps_its_order_and_names_what_it_rejects_by_place():
    async with serving() as rig:
        answer = await rig.post(
            [
                STARTED,
                {"type": "Story Started"},
                {**STARTED, "colour": "red"},
                7,
                {"type": "test.run", "story_id": "US-001", "data": {"passed": "many", "failed": 0}},
                {"type": "mine.own", "data": {"free": True}},
            ]
        )
        assert [(e["index"], e["seq"]) for e in answer["accepted"]] == [(0, 1), (5, 2)]
        assert [(e["index"], e["code"], e["field"]) for e in answer["rejected"]] == [
            (1, "invalid_event", "type"),
            (2, "unknown_field", "colour"),
            (3, "invalid_event", None),
            (4, "invalid_event", "data.passed"),
        ]
        assert answer["rejected"][1]["hint"] == "Put fields of your own under `data`."


async def test_lines_are_independent_of_each_other():
    async with serving() as rig:
        lines = [
            b"",
            orjson.dumps({**STARTED, "id": "a"}),
            b"   ",
            b'{"type": "broken"',
            b"\xff\xfe",
            orjson.dumps({**STARTED, "id": "b"}) + b"\r",
            b"[1, 2]",
            b"NaN",
        ]
        answer = await rig.post(b"\n".join(lines) + b"\n", content_type=NDJSON)
        assert [(e["index"], e["id"], e["seq"]) for e in answer["accepted"]] == [(0, "a", 1), (3, "b", 2)]
        assert [(e["index"], e["code"]) for e in answer["rejected"]] == [
            (1, "invalid_json"),
            (2, "invalid_json"),
            (4, "invalid_event"),
            (5, "invalid_json"),
        ]
        assert answer["rejected"][1]["message"] == "The line is not JSON: it has bytes that are no UTF-8."


@pytest.mark.parametrize(("value", "named"), [(b"null", "null"), (b"true", "true"), (b"7", "7")])
async def test_what_is_no_event_is_named_as_json_writes_it(value, named):
    async with serving() as rig:
        answer = await rig.post(b"[" + value + b"]", status=422)
        assert answer["rejected"][0]["message"] == f"An event is a JSON object, not {named}."


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"type":"a.b","data":{"n":18446744073709551616}}', "application/json"),
        (b'[{"type":"a.b","data":{"n":18446744073709551616}}]', "application/json"),
        (b'{"type":"a.b","data":{"n":18446744073709551616}}\n', NDJSON),
    ],
)
async def test_integers_that_would_lose_digits_are_refused(body: bytes, content_type: str):
    async with serving() as rig:
        answer = await rig.post(body, content_type=content_type, status=422)
        assert answer["error"]["code"] == "invalid_event"
        assert answer["error"]["field"] == "data.n"
        assert "string" in answer["error"]["hint"]


@pytest.mark.parametrize("body", [[{"type": "X"}, {"type": "Y"}], {"type": "X"}])
async def test_when_everything_is_rejected_the_status_says_so_and_the_first_error_is_told_like_any_other(body):
    async with serving() as rig:
        answer = await rig.post(body, status=422)
        assert answer["accepted"] == []
        assert answer["error"]["code"] == answer["rejected"][0]["code"] == "invalid_event"
        assert answer["error"]["field"] == "type"
        assert "hint" in answer["error"]
        assert rig.hub.state.head == 0


async def test_data_beyond_the_limits_is_too_large():
    async with serving() as rig:
        deep = json.loads("[" * 40 + "]" * 40)
        for data in ({"text": "x" * 70_000}, {"deep": deep}):
            answer = await rig.post({**STARTED, "data": data}, status=413)
            assert (answer["error"]["code"], answer["error"]["field"]) == ("too_large", "data")
        assert (await rig.post([{**STARTED, "data": {"text": "x" * 70_000}}, STARTED]))["accepted"]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_json"),
        (b"  \n ", "application/json", 400, "invalid_json"),
        (b"", NDJSON, 400, "invalid_json"),
        (b'{"type":', "application/json", 400, "invalid_json"),
        (b'[{"type": "a.b"}', "application/json", 400, "invalid_json"),
        (b'[{"type": "a.b"}, {"n": NaN}]', "application/json", 400, "invalid_json"),
        (b'"a.b"', "application/json", 400, "invalid_json"),
        (b"7", "application/json", 400, "invalid_json"),
        (b"\xff", "application/json", 400, "invalid_json"),
        (b'{"type": "a\xff.b"}', "application/json", 400, "invalid_json"),
        (b'{"type": "\\ud800"}', "application/json", 400, "invalid_json"),
        (b'{"type": "a.b"}', "text/plain", 415, "unsupported_media_type"),
        (b"type=a.b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_as_a_whole(body, content_type, status, code):
    async with serving() as rig:
        answer = await rig.post(body, status=status, content_type=content_type)
        assert answer["error"]["code"] == code
        assert answer["error"]["hint"]
        assert rig.hub.state.head == 0


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b"{}"), gzip.compress(b" " * 40_000_000), b"no gzip at all"],
    ids=["small", "a bomb", "no gzip at all"],
)
async def test_a_compressed_body_is_refused_without_being_unpacked(body, caplog):
    async with serving() as rig:
        answer = await rig.post(body, status=415, headers={"Content-Encoding": "gzip"})
        assert answer["error"]["code"] == "unsupported_media_type"
        assert (await rig.post(STARTED))["accepted"]
    assert not caplog.records


async def test_an_empty_array_is_nothing_to_do():
    async with serving() as rig:
        assert await rig.post([]) == {"accepted": [], "rejected": []}


async def test_a_charset_does_not_matter_to_the_media_type():
    async with serving() as rig:
        assert (await rig.post(STARTED, content_type="application/json; charset=utf-8"))["accepted"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_refused_whether_it_says_its_length_or_not(chunked):
    async with serving(limits={"body_bytes": 4096}) as rig:
        body = orjson.dumps({**STARTED, "data": {"text": "x" * 6000}})

        async def parts():
            for start in range(0, len(body), 1000):
                yield body[start : start + 1000]

        data = parts() if chunked else body
        async with rig.session.post("/api/events", data=data, headers={"Content-Type": "application/json"}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (413, "too_large")
        assert rig.hub.state.head == 0


async def test_a_large_array_is_referred_to_lines(monkeypatch):
    monkeypatch.setattr(http_body, "ARRAY_BYTES", 1000)
    async with serving() as rig:
        events = [{**STARTED, "id": f"e{n}"} for n in range(50)]
        answer = await rig.post(events, status=413)
        assert "x-ndjson" in answer["error"]["hint"]
        assert rig.hub.state.head == 0
        answer = await rig.post(b"\n".join(map(orjson.dumps, events)), content_type=NDJSON)
        assert len(answer["accepted"]) == 50


async def test_a_line_that_no_event_can_have_is_refused_before_it_is_parsed():
    async with serving() as rig:
        lines = [b'{"type":"a.b","data":{"x":"' + b"y" * 600_000 + b'"}}', orjson.dumps(STARTED)]
        answer = await rig.post(b"\n".join(lines), content_type=NDJSON)
        assert [(e["index"], e["code"]) for e in answer["rejected"]] == [(0, "too_large")]
        assert [e["index"] for e in answer["accepted"]] == [1]


async def test_many_lines_are_stored_in_order_while_others_are_served(home):
    home.mkdir(parents=True)
    async with serving(SqliteEventLog(home / "events.db", ProgressProjection())) as rig:
        count = 20_000
        body = b"\n".join(orjson.dumps({**STARTED, "id": f"e{n:05d}", "data": {"n": n}}) for n in range(count))
        served = []

        async def others():
            while True:
                await rig.get("/health")
                served.append(rig.hub.state.head)

        gathering = asyncio.gather(others())
        answer = await rig.post(body, content_type=NDJSON)
        gathering.cancel()
        assert [e["index"] for e in answer["accepted"]] == list(range(count))
        assert [e["seq"] for e in answer["accepted"]] == list(range(1, count + 1))
        assert rig.hub.state.head == count
        assert len({head for head in served if 0 < head < count}) > 3
        assert (await rig.get("/api/events?limit=1&order=desc"))["events"][0]["data"]["n"] == count - 1


async def test_a_log_that_cannot_be_written_is_an_error_with_nothing_half_said():
    class Full(MemoryEventLog):
        room = 300

        def append(self, events):
            return self.append_made(lambda: events, len(events))

        def append_made(self, make, most, offsets=(), chain=None):
            def made():
                events = make()
                self.room -= len(events)
                if self.room < 0:
                    raise StorageFull("The disk is full.")
                return events

            return super().append_made(made, most, offsets, chain)

    async with serving(Full(ProgressProjection())) as rig:
        events = [{**STARTED, "id": f"e{n:05d}"} for n in range(1000)]
        answer = await rig.post(b"\n".join(map(orjson.dumps, events)), status=507, content_type=NDJSON)
        assert set(answer) == {"error"}
        assert answer["error"]["code"] == "storage_full"
        assert (await rig.post(STARTED, status=507))["error"]["code"] == "storage_full"
        # With the same ids everything can be sent again: what was stored is answered with its place.
        stored = rig.hub.state.head
        rig.hub.log.room = 10_000
        answer = await rig.post(b"\n".join(map(orjson.dumps, events)), content_type=NDJSON)
        assert [e["seq"] for e in answer["accepted"]] == list(range(1, 1001))
        assert sum(e["duplicate"] for e in answer["accepted"]) == stored > 0


async def test_who_sends_too_fast_is_told_before_anything_is_stored():
    async with serving(limits={"events_per_second": 10}) as rig:
        assert (await rig.post([{**STARTED, "id": f"a{n}"} for n in range(10)]))["accepted"]
        answer = await rig.post([{**STARTED, "id": f"b{n}"} for n in range(10)], status=429)
        assert answer["error"]["code"] == "rate_limited"
        assert rig.hub.state.head == 10
        assert rig.published.refusals["http", "rate_limited"] == 1


async def test_only_a_few_large_bodies_are_read_at_once(monkeypatch):
    monkeypatch.setattr(http_body, "_LARGE", 1000)
    monkeypatch.setattr(http_body, "_MAX_LARGE", 1)
    async with serving() as rig:
        large = orjson.dumps({**STARTED, "data": {"text": "x" * 5000}})
        go_on = asyncio.Event()

        async def slowly():
            yield large[:4000]
            await go_on.wait()
            yield large[4000:]

        async def send(body):
            headers = {hdrs.CONTENT_TYPE: "application/json"}
            async with rig.session.post("/api/events", data=body, headers=headers) as answer:
                return answer.status, await answer.json()

        reader = rig.http._publish._bodies
        first = asyncio.gather(send(slowly()))
        await eventually(lambda: reader._large == 1)

        async def never_done():
            yield large[:2000]
            await asyncio.Event().wait()

        status, answer = await send(never_done())
        assert (status, answer["error"]["code"]) == (429, "busy")
        go_on.set()
        ((status, answer),) = await first
        assert (status, len(answer["accepted"])) == (200, 1)
        assert reader._large == 0


async def test_a_stopping_server_takes_no_events():
    async with serving() as rig:
        rig.http.close()
        assert (await rig.post(STARTED, status=503))["error"]["code"] == "shutting_down"


async def test_every_rejection_is_counted_and_can_be_seen():
    async with serving() as rig:
        await rig.post({"type": "X"}, status=422)
        await rig.post(b"{", status=400)
        await rig.post([STARTED, {**STARTED, "ts": 1}])
        published = (await rig.get("/status"))["published"]
        assert published["stored"] == {"http": 1}
        assert published["refused"] == {"http": {"invalid_event": 1, "invalid_json": 1, "unknown_field": 1}}
        newest = published["last_refusals"][0]
        assert (newest["transport"], newest["code"], newest["field"]) == ("http", "unknown_field", "ts")
        assert newest["at"].endswith("Z")


async def test_a_secret_in_a_refused_event_is_not_shown():
    async with serving() as rig:
        secret = "sk-ant-api03-" + "a1B2" * 20
        answer = await rig.post({"type": "a.b", secret: 1}, status=422)
        assert secret not in json.dumps(answer)
        assert secret not in json.dumps(await rig.get("/status"))


async def test_concurrent_senders_share_commits_and_each_gets_its_own_answer():
    async with serving() as rig:
        answers = await asyncio.gather(*(rig.post({**STARTED, "id": f"e{n}"}) for n in range(100)))
        assert sorted(answer["accepted"][0]["seq"] for answer in answers) == list(range(1, 101))
        stored = {event.id: event.seq for event in (await rig.hub.log.read(0, 200)).events}
        assert all(stored[answer["accepted"][0]["id"]] == answer["accepted"][0]["seq"] for answer in answers)
