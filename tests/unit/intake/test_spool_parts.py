"""The spool's small parts: names, lines, the table, shortening of records, and the kernel's word."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.clock import ManualClock
from claude_loop.eventlog.base import SpoolOffset
from claude_loop.events import Event
from claude_loop.id_rules import ID_PATTERN
from claude_loop.intake import spool_lines
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.inotify import CREATE, MODIFY, MOVED_TO, Inotify
from claude_loop.intake.redact import Redactor
from claude_loop.intake.rejected_lines import FILE_BYTES, SHOWN, RejectedLine, RejectedLines
from claude_loop.intake.spool_commit import FIRST_RETRY_SECONDS
from claude_loop.intake.spool_files import SpoolFiles
from claude_loop.intake.spool_lines import read_lines
from claude_loop.intake.spool_names import (
    FlushRequest,
    author,
    derived_prefix,
    earliest_us,
    is_readable_name,
    line_number,
    split_generation,
    why_unreadable,
)
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home
from claude_loop.settings import RedactSettings
from tests.unit.intake.drained import Drained

GONE = 4_194_400

# -- names -------------------------------------------------------------------------------------------------------


def test_our_names_tell_who_and_since_when() -> None:
    assert author("1769428800123456-4242-3735928559") == (4242, 1_769_428_800_123_456)
    assert author("mytool") is None
    assert earliest_us("1769428800123456-4242-ab.jsonl") <= 1_769_428_800_123_456
    assert earliest_us("mytool.jsonl") == 0


@pytest.mark.parametrize("name", ["x.jsonl", "Prüfung 1.jsonl", "a.b.jsonl"])
def test_readable_names(name: str) -> None:
    assert is_readable_name(name)
    assert split_generation(f"{name}.17") == (name, 17)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x", "its name does not end in .jsonl"),
        ("x.jsonl~", "its name does not end in .jsonl"),
        (".x.jsonl", "its name begins with a dot"),
        ("a\nb.jsonl", "its name has characters that cannot be printed"),
        ("\udcff.jsonl", "its name has characters that cannot be printed"),
        ("x" * 200 + ".jsonl", "its name has more than 200 bytes"),
    ],
)
def test_other_names(name: str, reason: str) -> None:
    assert not is_readable_name(name)
    assert why_unreadable(name) == reason


def test_derived_ids_are_ids_and_differ_by_generation() -> None:
    import re

    for name in ("x.jsonl", "Prüfung 1.jsonl", "n" * 190 + ".jsonl"):
        first, second = derived_prefix(name, 1_769_428_800_123_456), derived_prefix(name, 1_769_428_800_123_457)
        assert first != second
        assert re.match(ID_PATTERN, f"{first}{10**12}")


def test_flush_requests_and_line_numbers() -> None:
    assert FlushRequest.parse("1769428800123456-1-2.17") == ("1769428800123456-1-2", 17)
    assert FlushRequest.parse("a.b.3") == ("a.b", 3)
    assert FlushRequest.parse("nonsense") is None
    assert line_number("stem.12", "stem") == 12
    assert [line_number(id_, "stem") for id_ in ("stem", "stem.", "stem.x", "stem12", "stem.g1.0", "other.3")] == [
        0
    ] * 6


# -- lines -------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=30).map(b"\n".join),
    st.integers(1, 50),
    st.booleans(),
)
def test_reading_in_pieces_gives_every_line_once(content: bytes, piece: int, final: bool) -> None:
    found, at = [], 0
    while True:
        lines = read_lines(lambda offset, n: content[offset : offset + n], at, len(content), piece, final=final)
        for start, end, line in lines.lines:
            assert content[start : start + len(line)] == line
            assert content[start + len(line) : end] in (b"\n", b"")
            found.append(line)
        assert lines.too_long is None
        if lines.upto == at:
            break
        at = lines.upto
    expected = content.split(b"\n")
    if not final:
        expected = expected[:-1]
    assert found == [line for line in expected if line and not line.isspace()]


def test_a_line_beyond_the_limit_is_passed_without_being_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_lines, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(spool_lines, "KEPT_OF_LONG_LINE", 10)
    content = b"ok\n" + b"x" * 1_000 + b"\nafter\n" + b"y" * 500
    reads: list[int] = []

    def read(offset: int, length: int) -> bytes:
        data = content[offset : offset + length]
        reads.append(len(data))
        return data

    first = read_lines(read, 0, len(content), 16, final=False)
    assert [line for _, _, line in first.lines] == [b"ok"]
    second = read_lines(read, first.upto, len(content), 16, final=False)
    assert second.too_long == (3, 1_004, b"x" * 10)
    third = read_lines(read, second.upto, len(content), 16, final=False)
    assert [line for _, _, line in third.lines] == [b"after"]
    assert read_lines(read, third.upto, len(content), 16, final=False) == ([], third.upto, None)
    last = read_lines(read, third.upto, len(content), 16, final=True)
    assert last.too_long == (third.upto, len(content), b"y" * 10)
    assert max(reads) <= 128


@pytest.mark.parametrize(("length", "passed"), [(100, True), (101, False), (127, False)])
def test_a_line_just_beyond_the_limit_is_none(monkeypatch: pytest.MonkeyPatch, length: int, passed: bool) -> None:
    monkeypatch.setattr(spool_lines, "MAX_LINE_BYTES", 100)
    content = b"x" * length + b"\nafter\n"
    found = read_lines(lambda at, size: content[at : at + size], 0, len(content), 64, final=False)
    assert (found.too_long is None, [len(line) for _, _, line in found.lines][:1]) == (
        passed,
        [length] if passed else [],
    )
    assert found.upto >= length + 1


# -- the table ---------------------------------------------------------------------------------------------------


def test_rows_are_taken_up_by_name_and_inode_and_orphans_go() -> None:
    rows = [
        SpoolOffset("a.jsonl.5", 11, 100),
        SpoolOffset("a.jsonl.6", 12, 200),
        SpoolOffset("b.jsonl.7", 13, 300),
        SpoolOffset("nonsense", 14, 1),
    ]
    table = SpoolTable(rows)
    assert (table.meet("a.jsonl", 12, 1_000).generation, table.meet("a.jsonl", 12, 1_000).offset) == (6, 200)
    assert table.meet("c.jsonl", 13, 1_000).offset == 0  # the same inode under another name is another file
    leaving = table.meet_leaving("a.jsonl.5", 11)
    assert leaving is not None
    assert (leaving.offset, [life.generation for life in table.lives("a.jsonl")]) == (100, [5, 6])
    table.drop_orphans(lambda name, inode: False)
    assert sorted(change.name for change in table.row_changes) == ["b.jsonl.7", "nonsense"]


@pytest.mark.parametrize("name", ["\udcff.jsonl", "a\x1b.jsonl", ".a.jsonl", "a" * 250 + ".jsonl"])
def test_what_was_never_read_from_the_spool_has_not_left_it(name: str) -> None:
    assert SpoolTable().meet_leaving(f"{name}.5", 11) is None


def test_generations_of_a_name_only_grow() -> None:
    table = SpoolTable()
    seen = [table.meet("a.jsonl", 1, 50).generation]
    seen.append(table.meet("a.jsonl", 2, 50).generation)  # removed and made anew by somebody else
    seen.append(table.renew(table.spool["a.jsonl"], 3, 40).generation)  # the clock went back
    assert seen == sorted(set(seen))


# -- rejected lines ----------------------------------------------------------------------------------------------


def test_rejected_lines_are_bounded_on_disk_and_in_memory(home: Path) -> None:
    place = Home(home)
    place.prepare()
    rejected = RejectedLines(place, Redactor(RedactSettings()), ManualClock())
    for number in range(3_000):
        rejected.record([RejectedLine("f", number, "bad", b"password=hunter2 " + os.urandom(1_200))])
    assert rejected.count == 3_000
    assert [note["offset"] for note in rejected.last] == list(range(3_000 - SHOWN, 3_000))
    files = sorted(place.rejected.iterdir())
    assert [file.name for file in files] == ["lines.1.jsonl", "lines.jsonl"]
    assert all(file.stat().st_size < FILE_BYTES + 10_000 for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    notes = [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert notes[-1]["offset"] == 2_999
    after = RejectedLines(place, Redactor(RedactSettings()), ManualClock())
    assert list(after.last) == notes[-SHOWN:]
    assert after.count == len(files[1].read_bytes().splitlines())
    assert all("hunter2" not in note["line"] for note in notes)


# -- inotify -----------------------------------------------------------------------------------------------------


@pytest.mark.requires("linux")
def test_inotify_tells_names_by_directory(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    watch = Inotify()
    watch.watch(str(one), CREATE | MODIFY | MOVED_TO)
    watch.watch(str(two), CREATE)
    assert watch.read() == ({}, True)
    (one / "ä").write_bytes(b"x")
    (two / "b").write_bytes(b"x")
    os.rename(two / "b", one / "c")
    assert watch.read() == ({str(one): {"ä", "c"}, str(two): {"b"}}, True)
    for name in os.listdir(one):
        os.unlink(one / name)
    os.rmdir(one)
    assert watch.read().complete is False
    with pytest.raises(FileNotFoundError):
        watch.watch(str(one), CREATE)
    watch.close()


# -- where there are no leases, and where `spool` is a mount of its own --------------------------------------------


class WithoutLeases(SpoolFiles):
    def leases_work(self) -> bool:
        return False

    def writers(self, place: Any, entry: str) -> Any:
        return ("unknown", super().writers(place, entry)[1])


class OwnMount(SpoolFiles):
    def leave(self, name: str, leaving_name: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")


async def test_without_leases_a_file_leaves_a_minute_after_its_process(home: Path) -> None:
    world = Drained(home, WithoutLeases)
    world.append(f"1769428800000001-{GONE}-a.jsonl", 1)
    world.append(f"1769428800000001-{os.getpid()}-a.jsonl", 2)
    world.append("somebody.jsonl", 3)
    await world.turns(50, 1.0)
    assert len(os.listdir(world.home.spool)) == 3
    world.append(f"1769428800000001-{GONE}-a.jsonl", 4)  # its minute begins again
    await world.turns(55, 1.0)
    assert len(os.listdir(world.home.spool)) == 3
    await world.turns(15, 1.0)
    assert len(os.listdir(world.home.spool)) == 2
    await world.turns(60, 10.0)
    assert os.listdir(world.home.spool) == [f"1769428800000001-{os.getpid()}-a.jsonl"]
    assert os.listdir(world.home.leaving) == []
    assert sorted(world.marks) == [1, 2, 3, 4]


async def test_a_mount_of_its_own_is_cleaned_up_in_place(home: Path) -> None:
    world = Drained(home, OwnMount)
    world.append(f"1769428800000001-{GONE}-a.jsonl", 1)
    await world.turns(30, 1.0)
    assert len(os.listdir(world.home.spool)) == 1
    await world.turns(50, 1.0)
    assert os.listdir(world.home.spool) == []
    assert world.marks == [1]
    assert world.log._offsets == {}


# -- an event the log cannot store, by a defect ------------------------------------------------------------------


async def test_one_event_that_cannot_be_stored_does_not_keep_the_others(home: Path) -> None:
    world = Drained(home)
    world.refuses = lambda events: any(event.data["mark"] == "poison" for event in events)
    world.append("x.jsonl", 1, "poison", 2)
    await world.turns(2, 0.1)
    world.append("x.jsonl", 3)
    await world.turns(2, 0.1)
    assert world.marks == [1, 2, 3]
    assert [note["reason"] for note in world.rejected.last] == ["The events could not be stored."]


def test_a_line_beyond_all_measure_is_passed_in_stretches(monkeypatch) -> None:
    monkeypatch.setattr(spool_lines, "STRETCH_BYTES", 4 * spool_lines.MAX_LINE_BYTES)
    content = b"x" * (10 * spool_lines.MAX_LINE_BYTES)
    found = spool_lines.read_lines(lambda at, size: content[at : at + size], 0, len(content), 65_536, final=False)
    assert found.lines == []
    assert 4 * spool_lines.MAX_LINE_BYTES <= found.upto < 7 * spool_lines.MAX_LINE_BYTES
    assert found.too_long is not None


async def test_a_line_that_cannot_be_read_by_a_defect_does_not_keep_the_others(home: Path, monkeypatch) -> None:
    world = Drained(home)
    salvage = Acceptor.salvage_line

    def fail(self: Acceptor, line: bytes, **how: Any) -> Any:
        if b"poison" in line:
            raise TypeError("a defect")
        return salvage(self, line, **how)

    monkeypatch.setattr(Acceptor, "salvage_line", fail)
    world.append("x.jsonl", 1, "poison", 2)
    await world.turns(3, 0.1)
    assert world.marks == [1, 2]
    (note,) = world.rejected.last
    assert "poison" in note["line"]
    assert "defect" in note["reason"]


async def test_nor_does_an_event_that_no_json_can_be_made_of(home: Path, monkeypatch) -> None:
    world = Drained(home)
    salvage = Acceptor.salvage_line

    def spoil(self: Acceptor, line: bytes, **how: Any) -> Any:
        event, at_us = salvage(self, line, **how)
        if b"poison" in line:
            event.data["mark"] = "\ud800"
        return event, at_us

    monkeypatch.setattr(Acceptor, "salvage_line", spoil)
    world.append("x.jsonl", 1, "poison", 2)
    await world.turns(3, 0.1)
    assert world.marks == [1, 2]
    assert [note["line"].split()[0] for note in world.rejected.last] == ["note.made"]


async def test_offsets_that_cannot_be_stored_are_tried_again_in_peace(home: Path) -> None:
    world = Drained(home)
    tries = 0

    def refuse(events: Sequence[Event]) -> bool:
        nonlocal tries
        tries += not events
        return not events and tries < 3

    world.refuses = refuse
    (world.home.spool / "x.jsonl").write_bytes(b"\n\n\n")
    begun = asyncio.get_running_loop().time()
    await world.turns(1, 0.1)
    assert tries == 3
    assert asyncio.get_running_loop().time() - begun >= 3 * FIRST_RETRY_SECONDS
