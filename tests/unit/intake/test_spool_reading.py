"""Lines whose times are seen without parsing, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.clock import ManualClock, parse_time, rfc3339
from claude_loop.events import Event
from claude_loop.intake import spool_batch, spool_merge
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.spool_reading import LONGEST_PLAIN_LINE, LineReader, seen_times_us
from claude_loop.intake.spool_table import SpoolFile
from claude_loop.settings import LimitSettings, RedactSettings
from tests.unit.intake.drained import Drained

SEEN = "2026-01-26T12:00:00.000001Z"
BEFORE = "2026-01-26T11:59:00.000001Z"
SEEN_US = 1_769_428_800_000_001
OURS = f'{{"id":"a.1","type":"note.made","source":"bash","timestamp":"{SEEN}","data":{{"mark":1}}}}'


def seen(*lines: str) -> list[int] | None:
    texts = [line.encode() for line in lines]
    return seen_times_us(texts, b"\n".join(texts))


def test_the_time_of_a_line_as_our_emitters_write_it() -> None:
    later = OURS.replace("00.000001Z", "01.500000Z")
    assert seen(OURS, later) == [SEEN_US, SEEN_US + 1_499_999]
    # In text there is a backslash before a quote.
    assert seen(OURS.replace("bash", f'x,\\"timestamp\\":\\"{SEEN}\\"')) == [SEEN_US]


@pytest.mark.parametrize(
    "line",
    [
        '{"id":"a.1","type":"note.made","data":{}}',
        OURS.replace('"timestamp"', '"time"'),
        OURS.replace('{"mark":1}', f'{{"x":1,"timestamp":"{SEEN}"}}'),  # two
        OURS.replace("}}", f'}},"timestamp":"{SEEN}"}}'),  # two, of which the last one counts
        f'{{"type":"note.made","data":{{"x":1,"timestamp":"{SEEN}"}}}}',  # of the data
        f'{{"type":"note.made","data":[1,"timestamp":"{SEEN}"]}}',
        OURS.replace(SEEN, "2026-01-26T12:00:00Z"),
        OURS.replace(SEEN, "2026-01-26T12:00:00.000001+"),
        OURS.replace(SEEN, "2026-02-30T12:00:00.000001Z"),
        OURS.replace(SEEN, "2026-01-26T12:00:00,000001Z"),
        OURS.replace(SEEN, "2026-01-26T12:00:00.00000xZ"),
        OURS.replace(f'"{SEEN}"', "1769428800"),
        OURS.replace("note.made", "hook.claude"),
        OURS.removesuffix("}"),  # torn
        OURS.replace('{"mark":1}', f'{{"mark":"{"x" * LONGEST_PLAIN_LINE}"}}'),
        "nonsense",
    ],
)
def test_a_line_that_takes_more_than_a_look(line: str) -> None:
    assert seen(line) is None
    assert seen(OURS, line) is None


words = st.sampled_from(
    ['"', ",", "{", "}", "[", "timestamp", '","timestamp":"', SEEN, ":", "\\", "\\u0022", "é", "\n"]
)
texts = st.lists(words, max_size=8).map("".join)
values = st.recursive(texts | st.just(SEEN), lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3))
keys = st.sampled_from(["id", "timestamp", "data", "source"]) | texts


@given(st.lists(st.dictionaries(keys, values | st.just(SEEN), max_size=5), min_size=1, max_size=3))
def test_a_time_that_is_seen_is_the_one_that_is_parsed(records: list[dict[str, Any]]) -> None:
    found = seen(*(orjson.dumps(record).decode() for record in records))
    if found is not None:
        assert found == [parse_time(record["timestamp"]) for record in records]


def note(mark: object, number: int) -> bytes:
    record = {"id": f"a.{number}", "type": "note.made", "timestamp": BEFORE, "data": {"mark": mark}}
    return b"\n" + json.dumps(record, separators=(",", ":")).encode() + b"\n"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_batch, "BATCH_EVENTS", 2)
    monkeypatch.setattr(spool_merge, "PORTION", 2)


@pytest.mark.usefixtures("small_batches")
async def test_lines_that_turn_out_not_to_be_json_are_rejected_where_they_stand(home: Path) -> None:
    world = Drained(home)
    lines = [note(n, n) for n in range(1, 10)]
    for broken in (2, 3, 7):
        lines[broken] = lines[broken].replace(b"}}", b"}")
    (world.home.spool / "a.jsonl").write_bytes(b"".join(lines))
    await world.turns(1, 0.1)
    assert world.marks == [1, 2, 5, 6, 7, 9]
    notes = list(world.rejected.last)
    assert [told["offset"] for told in notes] == [sum(map(len, lines[:n])) + 1 for n in (2, 3, 7)]
    assert {told["file"].startswith("a.jsonl.") for told in notes} == {True}
    assert [told["line"].encode() for told in notes] == [lines[n].strip() for n in (2, 3, 7)]
    (row,) = world.log._offsets.values()
    assert row == sum(map(len, lines))


@pytest.mark.usefixtures("small_batches")
async def test_a_defect_in_making_an_event_costs_that_line_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Drained(home)
    salvage = Acceptor.salvage

    def fail(self: Acceptor, line: bytes, **how: Any) -> Any:
        if b"poison" in line:
            raise TypeError("a defect")
        return salvage(self, line, **how)

    monkeypatch.setattr(Acceptor, "salvage", fail)
    (world.home.spool / "a.jsonl").write_bytes(b"".join(note(m, n) for n, m in enumerate([1, 2, 3, "poison", 5, 6])))
    await world.turns(1, 0.1)
    assert world.marks == [1, 2, 3, 5, 6]
    (told,) = world.rejected.last
    assert "poison" in told["line"]
    assert "defect" in told["reason"]


@pytest.mark.parametrize("first", [b'\n{"id":"a.1","type":"note.made","data":{"mark":1}}\n', note(1, 1)])
async def test_a_file_whose_name_is_ahead_of_the_clock_keeps_its_order(home: Path, first: bytes) -> None:
    world = Drained(home)
    later = SEEN.replace("12:00:00", "12:00:20").encode()
    lines = [first, *(note(n, n).replace(BEFORE.encode(), later) for n in range(2, 6)), note(6, 6)]
    (world.home.spool / f"{SEEN_US + 10_000_000}-4194400-a.jsonl").write_bytes(b"".join(lines))
    await world.turns(2, 0.1)
    assert world.marks == [1, 2, 3, 4, 5, 6]
    assert list(world.log._offsets.values()) == [sum(map(len, lines))]


async def test_lines_whose_clock_has_gone_back_stay_in_their_files_order(home: Path) -> None:
    world = Drained(home)
    early = BEFORE.replace("11:59:00", "11:58:00").encode()
    lines = [note(1, 1), note(2, 2).replace(BEFORE.encode(), early), note(3, 3)]
    (world.home.spool / "a.jsonl").write_bytes(b"".join(lines))
    between = BEFORE.replace("11:59:00", "11:58:30").encode()
    (world.home.spool / "b.jsonl").write_bytes(note("b", 1).replace(BEFORE.encode(), between).replace(b"a.1", b"b.1"))
    await world.turns(1, 0.1)
    assert world.marks == ["b", 1, 2, 3]


async def test_so_do_lines_that_are_read_in_several_pieces(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early = BEFORE.replace("11:59:00", "11:58:00").encode()
    lines = [note(1, 1), note(2, 2).replace(BEFORE.encode(), early), note(3, 3).replace(BEFORE.encode(), early)]
    for name in ("LEAST_PIECE", "LARGEST_PIECE", "LARGEST_PLAIN_PIECE"):
        monkeypatch.setattr(spool_merge, name, len(lines[0] + lines[1]))  # the early one is a piece's last
    world = Drained(home)
    (world.home.spool / "a.jsonl").write_bytes(b"".join(lines))
    between = BEFORE.replace("11:59:00", "11:58:30").encode()
    (world.home.spool / "b.jsonl").write_bytes(note("b", 1).replace(BEFORE.encode(), between).replace(b"a.1", b"b.1"))
    await world.turns(1, 0.1)
    assert world.marks == ["b", 1, 2, 3]


@pytest.mark.parametrize("ahead_ms", [0, 1_000])
async def test_a_line_of_the_near_future_waits_and_so_does_what_is_behind_it(home: Path, ahead_ms: int) -> None:
    world = Drained(home)
    soon = f"{rfc3339(world.clock.now_us() // 1000 + ahead_ms)[:-1]}000Z".encode()
    lines = [note(1, 1), note(2, 2).replace(BEFORE.encode(), soon), note(3, 3)]
    (world.home.spool / "a.jsonl").write_bytes(b"".join(lines))
    await world.turns(1, 0.1)
    assert world.marks == [1]
    assert list(world.log._offsets.values()) == [len(lines[0])]
    await world.turns(2, 1.0)
    assert world.marks == [1, 2, 3]


async def test_secrets_in_lines_of_our_emitters_are_not_stored(home: Path) -> None:
    world = Drained(home)
    secret = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
    (world.home.spool / "a.jsonl").write_bytes(note(f"it is {secret}", 1) + note("plain", 2))
    await world.turns(1, 0.1)
    assert world.marks[1] == "plain"
    assert secret not in "".join(event.json for event in world.log._events)


async def test_a_secret_in_a_files_name_is_in_no_id(home: Path) -> None:
    world = Drained(home)
    secret = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
    without_id = note(1, 1).replace(b'"id":"a.1",', b"")
    (world.home.spool / f"{secret}.jsonl").write_bytes(without_id)
    (world.home.spool / "b.jsonl").write_bytes(without_id)
    await world.turns(1, 0.1)
    assert world.marks == [1, 1]
    ids = sorted(event.id for event in world.log._events)
    assert not any(secret in id_ for id_ in ids)
    assert any(id_.startswith("b.g") for id_ in ids)


def test_an_event_made_late_is_the_one_made_at_once() -> None:
    reader = LineReader(Acceptor(LimitSettings(), RedactSettings(), ManualClock()))
    file = SpoolFile("a.jsonl", 1, 7, 0)
    for line in (
        OURS,
        OURS.replace('"id":"a.1",', '"id":"",'),
        OURS.replace("bash", ""),
        OURS.replace("note.made", "Note"),
    ):
        late, (at_once, at_us) = (
            reader.event(file, (line.encode(), SEEN_US), 12),
            reader.item(file, line.encode(), 12, clear=True, hidden=False),
        )
        assert isinstance(at_once, Event)
        assert (late.as_dict(), at_us) == (at_once.as_dict(), SEEN_US)


def test_of_an_event_made_late_the_time_is_not_read_again() -> None:
    reader = LineReader(Acceptor(LimitSettings(), RedactSettings(), ManualClock()))
    event = reader.event(SpoolFile("a.jsonl", 1, 7, 0), (OURS.encode(), SEEN_US + 5_000), 12)
    assert event.at == SEEN_US // 1000 + 5
