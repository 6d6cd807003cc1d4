"""Accepting: the envelope's rules with field and next step, limits, completion, and salvage."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.catalogue import CATALOGUE
from claude_loop.clock import ManualClock
from claude_loop.errors import ClaudeLoopError, InvalidEvent, InvalidJson, TooLarge, UnknownField
from claude_loop.events import Event
from claude_loop.intake.accept import Acceptor
from claude_loop.settings import LimitSettings, RedactSettings

LIMITS = LimitSettings(data_bytes=2048, data_depth=4)
ACCEPTOR = Acceptor(LIMITS, RedactSettings(), ManualClock())
KEY = "sk-ant-" + "api03-aB3dE5gH7jK9mN1pQ2rS4tU6"


def accept(**raw: Any) -> Event:
    return ACCEPTOR.accept(raw, source="http")


def salvage(raw: Any) -> Event:
    line = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return ACCEPTOR.salvage(line, derived_id="derived", source="spool")[0]


def run_of_tests(**data: Any) -> dict[str, Any]:
    return {"type": "test.run", "story_id": "S", "data": data}


def commit(commit_hash: object) -> dict[str, Any]:
    return {"type": "commit.created", "story_id": "S", "data": {"commit_hash": commit_hash}}


def test_a_full_event_passes_as_it_is() -> None:
    raw = {
        "id": "e-1",
        "type": "story.started",
        "project": "shop",
        "prd_id": "PRD-001",
        "story_id": "US-001",
        "run_id": "r",
        "session_id": "s",
        "source": "bash",
        "timestamp": "2026-01-26T12:00:00.123456Z",
        "data": {"mine": [1, None]},
    }
    for event in (ACCEPTOR.accept(raw, source="x"), ACCEPTOR.accept_line(orjson.dumps(raw), source="x")):
        assert {key: event.as_dict()[key] for key in raw} == {
            **raw,
            "timestamp": "2026-01-26T12:00:00.123Z",
            "data": {"mine": [1, None], "story_id": "US-001", "status": "in_progress"},
        }


def test_what_is_absent_is_filled_in() -> None:
    event = accept(type="note.made", prd_id=None, timestamp=None, data=None)
    assert (len(event.id), event.at, event.source, event.data) == (26, 1_769_428_800_000, "http", {})
    assert accept(type="note.made").id != accept(type="note.made").id


@pytest.mark.parametrize(
    ("stamp", "at"),
    [
        (1_769_428_800, 1_769_428_800_000),
        (1_769_428_800.25, 1_769_428_800_250),
        (1_769_428_800_123, 1_769_428_800_123),
        ("2026-01-26T12:00:00Z", 1_769_428_800_000),
        ("2026-01-26T13:00:00.5+01:00", 1_769_428_800_500),
        ("2026-01-26 12:00:00.1234567Z", 1_769_428_800_123),
    ],
)
def test_times_come_as_text_or_number(stamp: str | float, at: int) -> None:
    assert accept(type="a.b", timestamp=stamp).at == at


@pytest.mark.parametrize(
    ("raw", "field", "hint"),
    [
        ({}, "type", "story.started"),
        ({"type": "Story:Started"}, "type", "`story.started`"),
        ({"type": 7}, "type", ""),
        ({"type": "a" * 129}, "type", ""),
        ({"type": "a.b\n"}, "type", "`a.b`"),
        ({"type": "a.b", "prd_id": 7}, "prd_id", '"7"'),
        ({"type": "a.b", "prd_id": ""}, "prd_id", "out"),
        ({"type": "a.b", "id": "x" * 129}, "id", ""),
        ({"type": "a.b", "project": "a\x1bb"}, "project", ""),
        ({"type": "a.b", "source": ["x"]}, "source", ""),
        ({"type": "a.b", "session_id": b"x"}, "session_id", ""),
        ({"type": "a.b", "timestamp": "yesterday"}, "timestamp", "RFC 3339"),
        ({"type": "a.b", "timestamp": True}, "timestamp", "RFC 3339"),
        ({"type": "a.b", "timestamp": math.inf}, "timestamp", "RFC 3339"),
        ({"type": "a.b", "timestamp": 10**400}, "timestamp", "RFC 3339"),
        ({"type": "a.b", "timestamp": "2026-01-26T12:00:00.12 456Z"}, "timestamp", "RFC 3339"),
        ({"type": "a.b", "data": []}, "data", "example"),
        ({"type": "a.b", "data": {"n": 2**70}}, "data.n", "string"),
        ({"type": "a.b", "data": {"a": [1, {"n": -(2**63) - 1}]}}, "data.a.1.n", "string"),
        ({"type": "a.b", "data": {"b": b"x"}}, "data", "text"),
        ({"type": "test.run", "story_id": "S", "data": {"passed": 1}}, "data.failed", "docs/events.md"),
        ({"type": "story.started", "story_id": "S", "data": {"status": "done"}}, "data.status", "filled in"),
        ({"type": "story.started", "data": {"story_id": "\n"}}, "data.story_id", ""),
        (run_of_tests(passed=3, failed=0, failures=[{"name": "a"}]), "data.failures", "count it in `failed`"),
        (run_of_tests(passed="3", failed="0", failures=[{"name": "a"}]), "data.failures", "count it in `failed`"),
        (run_of_tests(passed="3", failed="1", total=9), "data.total", "filled in"),
        (run_of_tests(passed=2**53, failed=1), "data", "counts of tests"),
        (commit("HEAD"), "data.commit_hash", "git rev-parse"),
        (commit("abc"), "data.commit_hash", "git rev-parse"),
        (commit("a" * 65), "data.commit_hash", "git rev-parse"),
        (commit("abc123d\n"), "data.commit_hash", "git rev-parse"),
        (commit(None), "data.commit_hash", ""),
    ],
)
def test_a_broken_rule_is_named_with_its_field_and_the_next_step(raw: Any, field: str, hint: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        ACCEPTOR.accept(raw, source="http")
    assert refused.value.field == field
    assert hint in refused.value.hint


@pytest.mark.parametrize(("key", "hint"), [("prd", "`prd_id`"), ("seq", "leave it out"), ("colour", "under `data`")])
def test_unknown_keys_are_refused_with_what_to_do(key: str, hint: str) -> None:
    with pytest.raises(UnknownField) as refused:
        ACCEPTOR.accept({"type": "a.b", key: 1}, source="http")
    assert refused.value.field == key
    assert hint in refused.value.hint


@pytest.mark.parametrize("raw", [None, [], "x", 7, True])
def test_what_is_no_object_is_no_event(raw: object) -> None:
    with pytest.raises(InvalidEvent):
        ACCEPTOR.accept(raw, source="http")
    with pytest.raises(InvalidEvent):
        ACCEPTOR.accept_line(orjson.dumps(raw), source="http")


def test_data_beyond_its_limits_is_refused() -> None:
    fits = "x" * (2048 - len('{"t":""}'))
    assert accept(type="a.b", data={"t": fits}).data == {"t": fits}
    deep: Any = {"a": {"b": {"c": {}}}}
    assert accept(type="a.b", data=deep).data == deep
    for data in ({"t": fits + "x"}, {"a": deep}, {"a": [[[[]]]]}):
        raw = {"type": "a.b", "data": data}
        for call in (lambda raw=raw: ACCEPTOR.accept(raw, source="h"), lambda raw=raw: ACCEPTOR.accept_line(orjson.dumps(raw), source="h")):  # fmt: skip
            with pytest.raises(TooLarge) as refused:
                call()
            assert refused.value.field == "data"


def test_what_json_cannot_say_becomes_what_readers_will_see() -> None:
    assert accept(type="a.b", data={"n": math.nan, "x": [math.inf]}).data == {"n": None, "x": [None]}


def test_secrets_go_from_the_event_and_from_refusals() -> None:
    event = accept(type="a.b", id=KEY, prd_id=KEY, source=KEY, data={"t": KEY, KEY: 1})
    assert KEY not in event.json
    assert event.prd_id == "[redacted:anthropic-key]"
    assert event.id.startswith("redacted-")
    assert accept(type="a.b", id=KEY).id == event.id != accept(type="a.b", id=KEY + "x").id
    for raw in ({"type": "a.b", KEY: 1}, {"type": f"A {KEY}"}, {"type": "a.b", "timestamp": KEY}):
        with pytest.raises(InvalidEvent) as refused:
            ACCEPTOR.accept(raw, source="http")
        assert "redacted" in str(refused.value.as_dict())
        assert KEY[:20] not in str(refused.value.as_dict())


@pytest.mark.parametrize(
    "line", [b'{"type":"a.b","data":{"t":"\\u0073%s"}}', b'{"type":"a.b","data":{"u":"x:\\/\\/a:s%s@h"}}']
)
def test_escapes_hide_no_secret(line: bytes) -> None:
    line = line.replace(b"s%s", KEY.encode()).replace(b"%s", KEY[1:].encode())
    assert "redacted" in ACCEPTOR.accept_line(line, source="h").json
    assert "redacted" in salvage(line).json


def test_a_secret_in_one_line_keeps_all_of_them_from_being_clear() -> None:
    clear = '{"type":"a.b","data":{"t":"\\n\\"said\\" é"}}'.encode()
    assert ACCEPTOR.is_clear(b"\n".join([clear] * 3))
    secret, escaped = f'{{"type":"a.b","data":{{"t":"{KEY}"}}}}'.encode(), b'{"type":"a.b","data":{"t":"\\u0073k"}}'
    for line in (secret, escaped, b'{"password":"x"}', b"\xff"):
        assert not ACCEPTOR.is_clear(b"\n".join([clear, line, clear]))


def test_a_clear_line_becomes_the_same_event() -> None:
    line = b'{"type":"test.run","id":"i","prd_id":"P","story_id":"S","timestamp":1,"data":{"passed":1,"failed":0}}'
    known, looked_at = (ACCEPTOR.accept_line(line, source="h", clear=clear) for clear in (True, False))
    assert known.json == looked_at.json
    salvaged = (ACCEPTOR.salvage_line(line, derived_id="d", source="h", clear=clear) for clear in (True, False))
    assert len({event.json for event, _ in salvaged if isinstance(event, Event)}) == 1


def test_lines_that_are_no_json_are_refused() -> None:
    for line in (b"", b"{", b'{"type":"a.b"} x', b'{"type":"a.b","data":{"t":"\xff"}}', b"\xff"):
        with pytest.raises(InvalidJson):
            ACCEPTOR.accept_line(line, source="h")


# -- salvage -----------------------------------------------------------------------------------------------------


def test_salvage_keeps_what_is_right_as_accept_does() -> None:
    line = b'{"id":"a.1","type":"test.run","story_id":"S","timestamp":"2026-01-26T12:00:00.123456Z","data":{"passed":1,"failed":0}}'
    event, at_us = ACCEPTOR.salvage(line, derived_id="derived", source="spool")
    assert at_us == 1_769_428_800_123_456
    assert (event.id, event.source, event.data["total"]) == ("a.1", "spool", 1)
    event, at_us = ACCEPTOR.salvage(b'{"type":"a.b"}', derived_id="derived", source="spool")
    assert (event.id, at_us) == ("derived", None)


def test_unknown_keys_are_kept_under_extra() -> None:
    event = salvage({"type": "a.b", "prd": "P", "data": {"x": 1, "_extra": {"y": 2}}})
    assert event.data == {"x": 1, "_extra": {"y": 2, "prd": "P"}}


def test_bad_ids_are_kept_aside_and_said() -> None:
    event = salvage({"type": "a.b", "prd_id": 7, "id": "\x00", "timestamp": "x", "project": "p"})
    assert (event.id, event.prd_id, event.project) == ("derived", None, "p")
    assert event.data["_extra"] == {"prd_id": 7, "id": "\x00", "timestamp": "x"}
    assert len(event.data["_invalid"]) == 3


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, -(10**30)])
def test_lines_with_an_integer_beyond_64_bits_are_refused(number: int) -> None:
    line = b'{"type":"a.b","data":{"f":1e300,"list":[{"n":%d}]}}' % number
    with pytest.raises(InvalidEvent) as refused:
        ACCEPTOR.accept_line(line, source="http")
    assert refused.value.field == "data.list.0.n"
    assert "string" in refused.value.hint


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63)])
def test_integers_of_64_bits_and_large_decimals_pass_exactly(number: int) -> None:
    line = b'{"type":"a.b","data":{"n":%d,"f":1e300,"g":36893488147419103232.0}}' % number
    data = {"n": number, "f": 1e300, "g": 36893488147419103232.0}
    assert ACCEPTOR.accept_line(line, source="http").data == data
    assert salvage(line).data == data
    assert ACCEPTOR.accept({"type": "a.b", "data": data}, source="http").data == data


def test_the_spool_keeps_the_digits_of_integers_beyond_64_bits_and_says_so() -> None:
    events = [salvage(b'{"type":"a.b","data":{"n":1234567890123456789012345%d}}' % n) for n in (1, 2)]
    assert [event.data["n"] for event in events] == ["12345678901234567890123451", "12345678901234567890123452"]
    assert "`data.n`" in events[0].data["_invalid"][0]
    assert not events[0].same_content(events[1])
    assert orjson.loads(events[0].json)["data"] == events[0].data


def test_counts_may_be_text_and_hashes_of_either_case() -> None:
    event = ACCEPTOR.accept(run_of_tests(passed="3", failed="0", failures=[]), source="http")
    assert (event.data["passed"], event.data["failed"], event.data["total"]) == (3, 0, 3)
    # 3.0 is an integer to JSON Schema, and what Lua and some encoders make of one.
    for counts in (
        {"passed": "3", "failed": "0", "total": "3"},
        {"passed": 3, "failed": 0, "total": "3"},
        {"passed": 3.0, "failed": 0},
        {"passed": 3.0, "failed": 0.0, "total": 3.0},
    ):
        assert ACCEPTOR.accept(run_of_tests(**counts), source="http").data["total"] == 3
    for hash_ in ("abcd", "ABCDEF12", "0" * 64):
        assert ACCEPTOR.accept(commit(hash_), source="http").data["commit_hash"] == hash_


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (run_of_tests(passed=3, failed=0, failures=[{"name": "a"}]), "failures"),
        (commit("not a hash"), "commit_hash"),
    ],
)
def test_what_contradicts_itself_is_kept_and_marked(raw: dict[str, Any], field: str) -> None:
    event = salvage(raw)
    assert event.type == raw["type"]
    assert event.data == raw["data"] | {"_invalid": event.data["_invalid"]}
    assert field in event.data["_invalid"][0]


def test_a_known_type_that_fails_its_model_is_kept_and_marked() -> None:
    event = salvage({"type": "test.run", "story_id": "S", "data": {"passed": "many"}})
    assert event.type == "test.run"
    assert event.data == {"passed": "many", "_invalid": event.data["_invalid"]}
    assert "data.passed" in event.data["_invalid"][0]


def waiting(until: object) -> dict[str, Any]:
    return {"type": "agent.waiting", "data": {"for": "human", "reason": "x", "until": until}}


@pytest.mark.parametrize("until", ["nonsense", "", "2026-01-26", -5, True, 1e300, [1], {}], ids=str)
def test_a_wait_until_what_is_no_time_is_refused_and_kept_by_the_spool(until: object) -> None:
    with pytest.raises(InvalidEvent) as refused:
        ACCEPTOR.accept(waiting(until), source="http")
    assert (refused.value.field, refused.value.hint[:12]) == ("data.until", "Use RFC 3339")
    event = salvage(waiting(until))
    assert event.data == {**waiting(until)["data"], "_invalid": [refused.value.message]}


@pytest.mark.parametrize(
    "until", [None, 0, 1.5, 1_769_428_800, "2026-01-26T12:00:00Z", "2026-01-26T12:00:00+01:00"], ids=str
)
def test_a_wait_until_a_time_is_stored_as_it_was_sent(until: object) -> None:
    assert ACCEPTOR.accept(waiting(until), source="http").data["until"] == until
    assert ACCEPTOR.accept(waiting("1769428800"), source="http").data["until"] == 1_769_428_800


@pytest.mark.parametrize(
    ("type_", "field", "values"),
    [
        ("test.run", "passed", ["many", "", " 3 ", "+3", "1e3", "3.0", "-3", "٣", 2.5, -3, True, None, [3], float("inf"), 2**60]),
        ("progress.updated", "current", ["inf", "nan", "1e999", "", ".", "0,5", " 3 ", "3_0", -1, True, None, float("inf"), float("nan")]),
        ("story.completed", "success", ["yes", "1", "True", "", 1, 0, 1.0, None]),
        ("run.completed", "exit_code", ["x", 1.5, True, 2**40]),
    ],
)  # fmt: skip
def test_a_wrong_type_is_refused_with_its_field(type_: str, field: str, values: list[object]) -> None:
    right: dict[str, object] = {"passed": 3, "failed": 0, "success": True}
    if type_ == "progress.updated":
        right = {"current": 1, "total": 3}
    for value in values:
        with pytest.raises(InvalidEvent) as refused:
            ACCEPTOR.accept({"type": type_, "story_id": "S", "data": {**right, field: value}}, source="http")
        assert (refused.value.field, bool(refused.value.hint)) == (f"data.{field}", True), value


def test_text_of_digits_is_a_number_also_inside() -> None:
    event = salvage({"type": "run.completed", "data": {"success": "false", "exit_code": "-9"}})
    assert event.data == {"success": False, "exit_code": -9}
    stories = [{"story_id": "A", "priority": "2", "passes": "true"}, {"story_id": "B", "priority": 1.5}]
    plan = {"type": "plan.updated", "data": {"stories": stories}}
    assert ACCEPTOR.accept(plan, source="http").data["stories"] == [
        {"story_id": "A", "priority": 2, "passes": True},
        stories[1],
    ]
    assert stories[0]["priority"] == "2"
    wrong = {"type": "plan.updated", "data": {"stories": [{"story_id": "A", "priority": "soon"}]}}
    with pytest.raises(InvalidEvent) as refused:
        ACCEPTOR.accept(wrong, source="http")
    assert refused.value.field == "data.stories.0.priority"
    used = ACCEPTOR.accept({"type": "usage.reported", "data": {"cost_usd": "0.42", "input_tokens": "9"}}, source="http")
    assert used.data == {"cost_usd": 0.42, "input_tokens": 9}
    for text, number in ((".42000000000000000000", 0.42), ("1.", 1.0), ("4.2e-1", 0.42), ("12", 12.0)):
        event = ACCEPTOR.accept({"type": "usage.reported", "data": {"cost_usd": text}}, source="http")
        assert event.data["cost_usd"] == number


@pytest.mark.parametrize(
    ("type_", "meant"),
    [("Commit Created", "commit.created"), ("story:started", "story.started"), ("A thing", "a_thing")],
)
def test_the_hint_for_a_wrong_type_names_what_was_meant(type_: str, meant: str) -> None:
    with pytest.raises(InvalidEvent) as refusal:
        ACCEPTOR.accept({"type": type_}, source="test")
    assert refusal.value.hint == f"Did you mean `{meant}`?"


@pytest.mark.parametrize("type_", [None, 7, "Not A Type", {"a": 1}])
def test_without_a_usable_type_the_whole_is_kept(type_: object) -> None:
    event = salvage({"type": type_, "prd_id": "P", "data": {"x": 1}})
    assert (event.type, event.prd_id) == ("invalid.event", "P")
    assert event.data["_extra"]["data"] == {"x": 1}
    assert event.data["_extra"].get("type") == type_
    assert event.data["_invalid"]


def test_what_careless_senders_write_is_read() -> None:
    event = salvage(
        b'\xef\xbb\xbf{"type":"a.b","data":{"t":"a\xffb\tc","s":"\\ud800","n":1e999,"i":123456789012345678901}}'
    )
    reasons = event.data.pop("_invalid")
    assert event.data == {"t": "a\ufffdb\tc", "s": "\ufffd", "n": "1e999", "i": "123456789012345678901"}
    assert reasons == ["`data.i` is an integer beyond 64 bits: kept as text."]
    assert salvage(b'{"type":"a.b","data":{"emoji":"\\ud83d\\ude00 \xff"}}').data == {"emoji": "😀 \ufffd"}


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"7", b'{"type":"a.b"', b"\xff\xff", b'{"type":NaN}', b"[" * 100_000, b'{"a":' * 100_000]
)
def test_only_what_is_no_object_is_rejected(line: bytes) -> None:
    with pytest.raises(InvalidJson):
        salvage(line)


def test_long_strings_are_shortened_to_fit_the_longest_first() -> None:
    event = salvage({"type": "log.message", "data": {"level": "info", "message": "é" * 4000, "kept": "k" * 300}})
    assert len(orjson.dumps(event.data)) <= LIMITS.data_bytes
    assert event.data["truncated"] == {"message": 8000}
    assert event.data["kept"] == "k" * 300
    assert event.data["message"].startswith("é" * 500)
    assert event.data["message"].endswith(" bytes cut]")


def test_depth_becomes_text() -> None:
    event = salvage({"type": "a.b", "data": {"a": {"b": {"c": {"d": [1, 2]}}}}})
    assert event.data == {"a": {"b": {"c": {"d": "[1,2]"}}}, "truncated": {"a.b.c.d": 5}}


@pytest.mark.parametrize(
    "data",
    [
        {"n": list(range(5000))},
        {f"key{n}": n for n in range(5000)},
        {"k" * 5000: 1},
        {"x": ["s" * 300] * 40},
        {"x": "\x01" * 5000, "truncated": True},
        {"x": ["\x01" * 200] * 200},
        {"x": f"{KEY} " * 200},
    ],
)
def test_whatever_is_too_large_is_made_to_fit(data: dict[str, Any]) -> None:
    event = salvage({"type": "a.b", "data": data})
    assert len(orjson.dumps(event.data)) <= LIMITS.data_bytes
    assert event.data["truncated"] or "truncated_" in event.data
    assert KEY not in event.json


_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(["password=x1y2z3a4", "inf", "nan", "9" * 30, "-1e400", "true"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=10,
)
_values = st.one_of(
    _json, st.sampled_from(["story.started", "test.run", "commit.created", "a.b", "2026-01-26T12:00:00Z", "US-1"])
)
_known_types = st.sampled_from(list(CATALOGUE))
_payload_keys = st.sampled_from(
    sorted({name for known in CATALOGUE.values() for name in known.adapter.json_schema().get("properties", {})})
)
_envelopes = st.dictionaries(
    st.one_of(
        st.sampled_from(["id", "type", "prd_id", "story_id", "source", "timestamp", "seq", "payload"]),
        st.text(max_size=4),
    ),
    _values,
    max_size=6,
).flatmap(
    lambda raw: st.one_of(
        st.just(raw),
        st.dictionaries(_payload_keys, _values, max_size=5).map(lambda data: {**raw, "data": data}),
        st.tuples(_known_types, st.dictionaries(_payload_keys, _values, max_size=6)).map(
            lambda both: {**raw, "type": both[0], "data": both[1]}
        ),
    )
)


def _is_sound(event: Event) -> None:
    stored = orjson.loads(event.json)
    assert stored["data"] == event.data
    assert stored["type"]
    assert stored["id"]


@given(st.one_of(_envelopes, _json))
def test_accept_gives_a_sound_event_or_a_deliberate_error(raw: Any) -> None:
    try:
        _is_sound(ACCEPTOR.accept(raw, source="h"))
    except ClaudeLoopError as refused:
        json.dumps(refused.as_dict()).encode()


@given(
    st.one_of(_envelopes.map(lambda raw: json.dumps(raw).encode(errors="replace")), st.binary(max_size=80)), st.data()
)
def test_salvage_keeps_every_object_and_never_breaks(line: bytes, data: st.DataObject) -> None:
    if line and data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(line) - 1))
        line = line[:cut] + data.draw(st.binary(max_size=3)) + line[cut + 1 :]
    with contextlib.suppress(InvalidJson):
        _is_sound(salvage(line))
    with contextlib.suppress(ClaudeLoopError):
        _is_sound(ACCEPTOR.accept_line(line, source="h"))


@pytest.mark.parametrize("type_", ["prd.archived", "prd.unarchived", "prd.forgotten"])
def test_what_the_daemon_alone_says_is_refused_and_from_the_spool_has_no_effect(type_):
    acceptor = Acceptor(LimitSettings(), RedactSettings(), ManualClock())
    with pytest.raises(InvalidEvent) as refusal:
        acceptor.accept({"type": type_, "prd_id": "P"}, source="http")
    assert refusal.value.field == "type"
    for data in ({}, {"_invalid": []}, {"n": 1}):
        line = orjson.dumps({"type": type_, "prd_id": "P", "data": data})
        event, _ = acceptor.salvage(line, derived_id="d", source="spool")
        assert event.data["_invalid"]
        assert not event.forgets


def test_wide_integers_are_what_they_will_be_when_they_are_read_back() -> None:
    """A text of another class was no text to the reducer, and no key to the encoder, until the log was read again."""
    event = salvage(
        b'{"type":"a.b","prd_id":123456789012345678901,"extra":{"x":123456789012345678902},'
        b'"data":{"title":123456789012345678903,"list":[-123456789012345678904]}}'
    )
    found = [event.prd_id, event.data["title"], event.data["list"][0], event.data["_extra"]["extra"]["x"]]
    assert [type(one) for one in found] == [str] * 4
