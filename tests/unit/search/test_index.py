"""search.db behind a real log: what it finds, what it follows, and what it lets go of."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import InvalidRequest
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.search import finder as finder_module
from claude_loop.search.finder import Finder
from claude_loop.search.index import SearchIndex
from claude_loop.search.words import as_expression

SHARD = 4


class Shelf:
    """A log, its index and a way to ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = SqliteEventLog(folder / "events.db", clock=ManualClock())
        self.index: SearchIndex
        self._made = 0

    async def open(self) -> None:
        await self.log.open(nobody)
        self.open_index()

    def open_index(self) -> bool:
        self.index = SearchIndex(self.folder / "search.db", self.folder / "events.db", SHARD)
        return self.index.fit(self.log.state)

    async def say(self, text: str, type_: str = "log.message", **fields: Any) -> None:
        self._made += 1
        data = {"message": text} if isinstance(text, str) else text
        await self.log.append([Event(type_, data, id=f"e{self._made}", source="test", **fields)])

    def catch_up(self) -> int:
        steps = 0
        while self.index.step(self.log.state):
            steps += 1
        return steps

    def find(self, typed: str, filter_: Filter = MATCH_ALL, upto: int | None = None, limit: int = 100) -> list[int]:
        return [event.seq for event in self.ask(typed, filter_, upto, limit).events]

    def ask(self, typed: str, filter_: Filter = MATCH_ALL, upto: int | None = None, limit: int = 100) -> Any:
        finder = Finder(self.folder / "search.db", self.folder / "events.db", SHARD)
        state = self.log.state
        try:
            return finder.find(
                as_expression(typed), filter_, state.head if upto is None else upto, state.first, limit, 10**6
            )
        finally:
            finder.close()


@pytest.fixture
async def shelf(tmp_path: Path):
    shelf = Shelf(tmp_path)
    await shelf.open()
    yield shelf
    shelf.index.close()
    await shelf.log.close()


async def test_values_types_and_ids_are_found_and_keys_are_not(shelf: Shelf):
    await shelf.say({"failed": 0, "deep": [{"name": "test_coupon"}], "path": "C:\\new\nline"}, type_="test.run")
    await shelf.say("Überraschung", prd_id="PRD-7", project="shop")
    shelf.catch_up()
    assert shelf.find("test_coupon") == [1]
    assert shelf.find("coup") == [1], "the beginning of a word is enough"
    assert shelf.find('"coup"') == [], "in quotes it is not"
    assert shelf.find("new line") == [1], "escapes are no part of words"
    assert shelf.find("failed") == []
    assert shelf.find("test.run") == [1]
    assert shelf.find("uberraschung") == shelf.find("PRD-7") == shelf.find("shop über") == [2]
    assert shelf.find("coupon über") == [], "all words must be there"


async def test_newest_first_with_filters_and_pages_across_shards(shelf: Shelf):
    for n in range(11):
        await shelf.say(f"word number{n}", prd_id=f"P{n % 2}")
    assert shelf.ask("word").indexed_upto == 0
    assert shelf.catch_up() == 3
    assert shelf.find("word") == list(range(11, 0, -1))
    assert shelf.find("word", Filter(prd_ids=("P0",))) == [11, 9, 7, 5, 3, 1]
    assert shelf.find("word", Filter(types=("log.*",), sources=("nobody",))) == []
    page = shelf.ask("word", upto=9, limit=3)
    assert ([event.seq for event in page.events], page.more, page.indexed_upto) == ([9, 8, 7], True, 11)
    last = shelf.ask("word", upto=3, limit=3)
    assert ([event.seq for event in last.events], last.more) == ([3, 2, 1], False)


async def test_goes_on_after_a_restart_where_it_was(shelf: Shelf):
    for n in range(6):
        await shelf.say(f"word{n}")
    shelf.index.step(shelf.log.state)
    shelf.index.close()
    assert shelf.open_index() is True
    assert shelf.ask("word").indexed_upto == 4
    shelf.catch_up()
    assert shelf.find("word") == [6, 5, 4, 3, 2, 1]


async def test_another_log_under_the_same_name_begins_anew(shelf: Shelf, tmp_path: Path):
    await shelf.say("old")
    shelf.catch_up()
    await shelf.log.close()
    shelf.index.close()
    for file in tmp_path.glob("events.db*"):
        file.unlink()
    shelf.log = SqliteEventLog(tmp_path / "events.db", clock=ManualClock(2 * 10**15))
    await shelf.log.open(nobody)
    await shelf.say("young")
    assert shelf.open_index() is False
    shelf.catch_up()
    assert shelf.find("old") == []
    assert shelf.find("young") == [1]


@pytest.mark.parametrize("more", [0, 3])
async def test_a_log_restored_from_a_backup_begins_anew(shelf: Shelf, tmp_path: Path, more: int):
    await shelf.say("shared")
    shelf.index.close()
    await shelf.log.close()
    backup = (tmp_path / "events.db").read_bytes()
    shelf.log = SqliteEventLog(tmp_path / "events.db", clock=ManualClock())
    await shelf.log.open(nobody)
    shelf.open_index()
    await shelf.say("lost")
    await shelf.say("lost")
    shelf.catch_up()
    shelf.index.close()
    await shelf.log.close()
    (tmp_path / "events.db").write_bytes(backup)
    shelf.log = SqliteEventLog(tmp_path / "events.db", clock=ManualClock())
    await shelf.log.open(nobody)
    for _ in range(more):
        await shelf.say("other")
    assert shelf.open_index() is False
    shelf.catch_up()
    assert shelf.find("lost") == []
    assert shelf.find("shared") == [1]
    assert shelf.find("other") == list(range(1 + more, 1, -1))


async def test_what_retention_takes_is_dropped(shelf: Shelf, tmp_path: Path):
    for n in range(10):
        await shelf.say(f"word{n}")
    shelf.catch_up()
    await shelf.log.prune(0, 5, 100)
    shelf.catch_up()
    assert shelf.find("word") == [10, 9, 8, 7, 6]
    with sqlite3.connect(tmp_path / "search.db") as connection:
        assert connection.execute("SELECT number FROM shards").fetchall() == [(1,), (2,)]
    connection.close()
    await shelf.log.prune(0, 0, 100)
    shelf.catch_up()
    assert shelf.find("word") == []
    await shelf.say("word after")
    shelf.catch_up()
    assert shelf.find("word") == [11]


async def test_a_fresh_index_begins_at_the_oldest_event_kept(shelf: Shelf):
    for n in range(10):
        await shelf.say(f"word{n}")
    await shelf.log.prune(0, 5, 100)
    shelf.catch_up()
    assert shelf.find("word") == [10, 9, 8, 7, 6]
    assert shelf.ask("word").indexed_upto == 10


async def test_a_forgotten_prd_leaves_the_index_whether_it_is_blanked_yet_or_not(shelf: Shelf, tmp_path: Path):
    for n in range(6):
        await shelf.say(f"secret{n} word", prd_id=f"P{n % 2}", project=None if n < 4 else "shop")
    shelf.catch_up()
    await shelf.say({"_invalid": ["refused"]}, type_="prd.forgotten", prd_id="P0")
    await shelf.say({}, type_="prd.forgotten", prd_id="P1")
    await shelf.say("secret again", prd_id="P1")
    shelf.catch_up()
    assert shelf.find("secret") == [9, 6, 5, 3, 1]
    assert shelf.find("word") == [6, 5, 3, 1]
    assert shelf.ask("word").indexed_upto == 9
    assert b"secret3" not in b"".join(file.read_bytes() for file in tmp_path.glob("search.db"))


def wiped(folder: Path) -> list[tuple[int]]:
    connection = sqlite3.connect(folder / "search.db")
    try:
        return connection.execute("SELECT wiped FROM forgotten").fetchall()
    finally:
        connection.close()


async def test_the_words_of_a_forgotten_prd_leave_the_file_also_after_a_crash_in_between(shelf: Shelf, tmp_path: Path):
    await shelf.say("quicksilver", prd_id="P1")
    shelf.catch_up()
    await shelf.say({}, type_="prd.forgotten", prd_id="P1")
    assert shelf.index.step(shelf.log.state)
    assert wiped(tmp_path) == [(0,)]  # forgotten, and not yet wiped
    shelf.index.close()
    shelf.open_index()
    shelf.catch_up()
    assert wiped(tmp_path) == [(2,)]
    assert b"quicksilver" not in b"".join(file.read_bytes() for file in tmp_path.glob("search.db*"))


async def test_a_broken_file_is_made_anew(shelf: Shelf, tmp_path: Path):
    await shelf.say("word")
    shelf.index.close()
    (tmp_path / "search.db").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    shelf.open_index()
    shelf.catch_up()
    assert shelf.find("word") == [1]
    assert (tmp_path / "search.db").stat().st_mode & 0o777 == 0o600


async def test_a_file_of_another_format_is_made_anew(shelf: Shelf, tmp_path: Path):
    await shelf.say("word")
    shelf.catch_up()
    shelf.index.close()
    connection = sqlite3.connect(tmp_path / "search.db")
    connection.execute("PRAGMA user_version = 77")
    connection.close()
    shelf.open_index()
    shelf.catch_up()
    assert shelf.find("word") == [1]


async def test_large_events_make_small_batches(shelf: Shelf):
    for _ in range(4):
        await shelf.say("x " * 300_000)
    assert shelf.catch_up() > 2


async def test_a_search_that_takes_too_long_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch):
    for n in range(300):
        await shelf.say(f"word{n}")
    shelf.catch_up()
    monkeypatch.setattr(finder_module, "LONGEST_SECONDS", -1.0)
    monkeypatch.setattr(finder_module, "_STEPS_BETWEEN_LOOKS", 1)
    with pytest.raises(InvalidRequest, match="takes more than") as refusal:
        shelf.ask("word")
    assert refusal.value.hint
