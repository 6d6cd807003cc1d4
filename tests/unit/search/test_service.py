"""Search as the daemon runs it: it follows the log by itself, and mends itself."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from claude_loop.errors import ClaudeLoopError, StorageFailed
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL
from claude_loop.hub import Hub
from claude_loop.search import service
from claude_loop.search.index import SearchIndex
from claude_loop.search.service import Search
from claude_loop.supervision import TaskOwner
from tests.support import PATIENCE, eventually


@pytest.fixture
async def hub(tmp_path: Path):
    hub = Hub(SqliteEventLog(tmp_path / "events.db"), EventBus())
    await hub.start()
    yield hub
    await hub.stop()


@pytest.fixture
async def search(hub: Hub, tmp_path: Path):
    search = Search(hub, tmp_path / "search.db", tmp_path / "events.db")
    tasks = TaskOwner("test")
    tasks.spawn(search.run(), "indexer")
    yield search
    await tasks.close()
    await search.close()


async def say(hub: Hub, *texts: str) -> None:
    await hub.publish([Event("log.message", {"message": text}, id=text, source="test", at=1) for text in texts])


async def found(hub: Hub, search: Search, word: str) -> list[int]:
    answer = await search.find(f'"{word}"*', MATCH_ALL, hub.state.head, 1000, 10**7)
    return [event.seq for event in answer.events]


async def indexed(hub: Hub, search: Search) -> bool:
    return (await search.find('"x"', MATCH_ALL, hub.state.head, 1, 1)).indexed_upto == hub.state.head


async def mended(hub: Hub, search: Search) -> bool:
    try:
        return await indexed(hub, search)
    except StorageFailed:
        return False


async def test_follows_what_is_published(hub: Hub, search: Search):
    await say(hub, "one")
    await eventually(lambda: indexed(hub, search))
    await say(hub, *(f"two{n}" for n in range(600)))
    await eventually(lambda: indexed(hub, search))
    assert await found(hub, search, "one") == [1]
    assert len(await found(hub, search, "two")) == 600


async def test_gives_memory_back_when_it_has_worked_and_nothing_more_comes(hub: Hub, tmp_path: Path, monkeypatch):
    given: list[int] = []
    looks: list[float] = []
    monkeypatch.setattr(service, "give_back", lambda: given.append(hub.state.head))
    monkeypatch.setattr(service, "until_tick", lambda _now, every: looks.append(every) or 0.02)
    search, tasks = Search(hub, tmp_path / "search.db", tmp_path / "events.db"), TaskOwner("test")
    tasks.spawn(search.run(), "indexer")
    await eventually(lambda: len(looks) > 3)
    assert given == []
    await say(hub, "one")
    await eventually(lambda: given == [1])
    seen = len(looks)
    await eventually(lambda: len(looks) > seen + 3)
    assert given == [1]
    await tasks.close()
    await search.close()


async def test_before_the_index_is_there_nothing_is_indexed(hub: Hub, tmp_path: Path):
    await say(hub, "one")
    search = Search(hub, tmp_path / "search2.db", tmp_path / "events.db")
    answer = await search.find('"one"', MATCH_ALL, 1, 10, 1000)
    assert (answer.events, answer.indexed_upto) == ([], 0)
    await search.close()


async def test_an_index_that_cannot_be_made_is_an_error(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "planted").mkdir()
    search = Search(hub, tmp_path / "planted", tmp_path / "events.db")
    running = asyncio.ensure_future(search.run())

    async def refused() -> bool:
        try:
            await search.find('"one"', MATCH_ALL, 1, 10, 1000)
        except StorageFailed as failure:
            return "cannot be made" in failure.message
        return False

    await eventually(refused)
    running.cancel()
    await asyncio.wait([running])
    await search.close()


async def test_follows_a_pruning_without_events(hub: Hub, search: Search):
    await say(hub, "one", "two")
    await eventually(lambda: indexed(hub, search))
    await hub.log.prune(0, 0, 100)
    assert await found(hub, search, "one") == []
    await eventually(lambda: indexed(hub, search))


async def test_tries_again_after_a_failure(hub: Hub, search: Search, monkeypatch: pytest.MonkeyPatch):
    failures = 0
    step = SearchIndex.step

    def failing(self: SearchIndex, state: Any) -> bool:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise sqlite3.OperationalError("disk I/O error")
        return step(self, state)

    monkeypatch.setattr(service, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(SearchIndex, "step", failing)
    await say(hub, "one")
    await eventually(lambda: indexed(hub, search))
    assert failures >= 3


async def test_an_unreadable_index_is_an_error_with_a_code_and_then_found_again(
    hub: Hub, search: Search, monkeypatch: pytest.MonkeyPatch
):
    await say(hub, "one")
    await eventually(lambda: indexed(hub, search))

    def broken(*_arguments: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken_for_now:
        broken_for_now.setattr(service.Finder, "find", broken)
        with pytest.raises(ClaudeLoopError) as refusal:
            await found(hub, search, "one")
        assert refusal.value.code == "storage_failed"
    assert await found(hub, search, "one") == [1]


async def test_ends_with_the_hub(tmp_path: Path):
    hub = Hub(SqliteEventLog(tmp_path / "other.db"), EventBus())
    await hub.start()
    search = Search(hub, tmp_path / "search2.db", tmp_path / "other.db")
    running = asyncio.ensure_future(search.run())
    await say(hub, "one")
    await eventually(lambda: indexed(hub, search))
    await hub.stop()
    await asyncio.wait_for(running, PATIENCE)
    await search.close()


def spoil(path: Path) -> None:
    """Overwrite what is in the file, but not its first page, as a failing disk does."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = path.stat().st_size
    assert size > 8192
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


async def test_an_index_that_is_spoiled_inside_is_made_anew_at_the_start(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "RETRY_SECONDS", 0.01)
    path = tmp_path / "search.db"
    for _ in range(2):
        search = Search(hub, path, tmp_path / "events.db")
        tasks = TaskOwner("test")
        tasks.spawn(search.run(), "indexer")
        await say(hub, "one", "two")
        await eventually(lambda search=search: mended(hub, search))
        assert await found(hub, search, "one") == [1]
        await tasks.close()
        await search.close()
        spoil(path)


async def test_an_index_that_is_spoiled_while_it_is_used_is_made_anew(
    hub: Hub, search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "RETRY_SECONDS", 0.01)
    await say(hub, "one")
    await eventually(lambda: indexed(hub, search))
    assert await found(hub, search, "one") == [1]
    spoil(tmp_path / "search.db")

    await say(hub, "two")

    async def answers() -> bool:
        return await mended(hub, search) and await found(hub, search, "one") == [1]

    await eventually(answers)
    assert await found(hub, search, "two") == [2]


async def test_an_index_whose_file_is_gone_is_made_anew(hub: Hub, search: Search, tmp_path: Path):
    await say(hub, "one")
    await eventually(lambda: indexed(hub, search))
    for file in tmp_path.glob("search.db*"):
        file.unlink()
    await say(hub, "two")

    async def is_there() -> bool:
        return (tmp_path / "search.db").is_file() and await indexed(hub, search)

    await eventually(is_there)
    assert await found(hub, search, "two") == [2]
