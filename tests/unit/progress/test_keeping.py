"""Archiving and forgetting a PRD, on every backend: what is gone, what stays, and what a crash in between leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.clock import ManualClock, SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.base import EventLog
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import BLANK, FORGOTTEN, Event
from claude_loop.hub import Hub
from claude_loop.progress import keeping as keeping_module
from claude_loop.progress.documents import PrdDocument
from claude_loop.progress.keeping import Keeping
from claude_loop.progress.keys import prd_key, story_key
from claude_loop.progress.patches import PatchMaker, apply_patches
from claude_loop.progress.projection import ProgressProjection
from claude_loop.progress.state_feed import StateFeed
from claude_loop.progress.views import find_prd
from claude_loop.subscription import FROM_START, Batch
from claude_loop.supervision import TaskOwner
from tests.support import eventually

SECRET = "the-secret-words"


class World:
    def __init__(self, log: EventLog, clock: ManualClock) -> None:
        self.hub = Hub(log, EventBus())
        self.tasks = TaskOwner("test")
        self.keeping = Keeping(self.hub, clock, self.tasks)
        self._made = 0

    async def say(self, type_: str, prd: str = "P", project: str | None = None, **fields: Any) -> Event:
        self._made += 1
        data = fields.pop("data", {"note": SECRET})
        event = Event(type_, data, id=f"e{self._made}", prd_id=prd, project=project, source="test", at=1, **fields)
        await self.hub.publish([event])
        return event

    async def work(self, prd: str = "P", project: str | None = None) -> None:
        await self.say("prd.started", prd, project, data={"title": SECRET})
        await self.say("story.started", prd, project, story_id="US-1")
        await self.say("log.message", prd, project)

    async def prd(self, prd: str = "P", project: str = "") -> PrdDocument:
        return await find_prd(self.hub.log, prd, project)

    async def stored(self) -> dict[str, dict[str, Any]]:
        return {event.id: event.data for event in (await self.hub.log.read(0, 10_000)).events}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[World]:
    projection = ProgressProjection()
    if request.param == "memory":
        log: EventLog = MemoryEventLog(projection, clock)
    else:
        log = SqliteEventLog(tmp_path / "events.db", projection, clock)
    world = World(log, clock)
    await world.hub.start()
    yield world
    await world.tasks.close()
    await world.hub.stop()


async def test_archiving_is_said_once_and_a_new_run_brings_the_prd_back(world: World):
    await world.work()
    run = (await world.hub.log.entities("run/"))["run/*/P/e1"]
    assert await world.keeping.archive(await world.prd(), archived=False) is None
    assert await world.keeping.archive(await world.prd(), archived=True) == 4
    assert (await world.prd())["archived_at"] is not None
    assert await world.keeping.archive(await world.prd(), archived=True) is None
    assert (await world.hub.log.entities("run/"))["run/*/P/e1"] == run, "nothing was said about the run"
    assert await world.keeping.archive(await world.prd(), archived=False) == 5
    assert (await world.prd())["archived_at"] is None
    await world.keeping.archive(await world.prd(), archived=True)
    await world.say("log.message")
    assert (await world.prd())["archived_at"] is not None, "only a new run is a new beginning"
    await world.say("prd.completed", data={"success": True})
    await world.say("prd.started")
    assert (await world.prd())["archived_at"] is None


async def test_an_archiving_that_was_marked_as_invalid_is_none(world: World):
    await world.work()
    await world.say("prd.archived", data={"_invalid": ["not the daemon"]})
    assert (await world.prd())["archived_at"] is None


async def test_forgetting_blanks_the_events_of_that_prd_alone(world: World):
    await world.work()
    await world.work("P2")
    await world.work("P", "shop")
    before = await world.hub.log.entities("")
    seq = await world.keeping.forget(await world.prd())
    assert seq == 10
    stored = await world.stored()
    assert [stored[f"e{n}"] for n in (1, 2, 3)] == [BLANK] * 3
    assert SECRET in str(stored["e4"])
    assert SECRET in str(stored["e7"])
    assert len(stored) == 10, "no number is missing"
    after = await world.hub.log.entities("")
    gone = {prd_key(None, "P"), "run/*/P/e1", story_key(None, "P", "e1", "US-1")}
    assert after == {key: before[key] for key in before if key not in gone}
    await world.hub.log.rebuild()
    assert await world.hub.log.entities("") == after


async def test_readers_that_resume_see_blanked_events_and_so_does_the_bus(world: World):
    start = (await world.hub.subscribe()).subscription.cursor
    await world.work()
    reader = (await world.hub.subscribe(start=FROM_START)).subscription
    shared = await reader.next()
    assert isinstance(shared, Batch)
    shared.encoded["events"] = "a frame with the secret"
    await world.keeping.forget(await world.prd())
    again = (await world.hub.subscribe(start=FROM_START)).subscription
    assert again.cursor == start
    batch = await again.next()
    assert isinstance(batch, Batch)
    assert SECRET not in "".join(event.json for event in batch.events)
    assert batch.encoded == {}
    assert SECRET not in "".join(str(event.data) for event in world.hub.bus.get_history(limit=None))


async def test_the_same_id_is_still_the_same_event(world: World):
    await world.work()
    again = Event("log.message", {"note": SECRET}, id="e3", prd_id="P", source="test", at=1)
    other = Event("note.made", {"note": SECRET}, id="e3", prd_id="P", source="test", at=1)
    await world.keeping.forget(await world.prd())
    (same, conflict) = await world.hub.publish([again, other])
    assert (same.seq, same.duplicate) == (3, True)
    assert conflict.error is not None
    assert SECRET not in str(await world.stored())


async def test_a_prd_may_begin_again(world: World):
    await world.work()
    await world.keeping.forget(await world.prd())
    await world.work()
    prd = await world.prd()
    assert (prd["runs"], prd["run_id"]) == (1, "e4")
    before = await world.hub.log.entities("")
    await world.hub.log.rebuild()
    assert await world.hub.log.entities("") == before
    maker, documents = PatchMaker(10**15), {}
    for event in (await world.hub.log.read(0, 100)).events:
        apply_patches(documents, maker.event(event))
    assert documents == before


async def test_what_was_pruned_before_is_forgotten_too(world: World):
    await world.work()
    await world.work("P2")
    await world.hub.log.prune(0, 4, 100)
    assert SECRET in str((await world.hub.log.trimmed_entities("prd/"))[1])
    await world.keeping.forget(await world.prd())
    assert prd_key(None, "P") not in (await world.hub.log.trimmed_entities("prd/"))[1]
    before = await world.hub.log.entities("")
    await world.hub.log.rebuild()
    assert await world.hub.log.entities("") == before
    await world.hub.log.prune(0, 0, 100)
    await world.hub.log.rebuild()
    assert await world.hub.log.entities("") == before


async def test_what_others_say_forgets_nothing(world: World):
    await world.work()
    await world.say(FORGOTTEN, data={"_invalid": ["said by the daemon alone"]})
    assert await world.hub.log.blank(100) is False
    assert SECRET in str(await world.stored())
    assert (await world.prd())["runs"] == 1


async def test_a_watcher_sees_it_go(world: World, clock: ManualClock):
    feed = StateFeed(world.hub.log, clock, 300_000)
    await world.work()
    watch = await feed.watch()
    documents = {key: dict(document) for key, document in watch.documents.items()}
    await world.keeping.forget(await world.prd())
    apply_patches(documents, watch.take().patches)
    assert documents == {}
    await world.work()
    apply_patches(documents, watch.take().patches)
    assert set(documents) == {prd_key(None, "P"), "run/*/P/e4"}


async def test_forgetting_and_a_new_beginning_in_one_commit(world: World):
    await world.work()
    forgetting = Event(FORGOTTEN, {}, id="f", prd_id="P", source="daemon", at=1)
    last = Event("log.message", {}, id="last", prd_id="P", source="test", at=1)
    first = Event("prd.started", {}, id="first", prd_id="P", source="test", at=1)
    await world.hub.publish([last, forgetting, first])
    assert (await world.prd())["run_id"] == "first"
    before = await world.hub.log.entities("")
    assert set(before) == {prd_key(None, "P"), "run/*/P/first"}
    await world.hub.log.rebuild()
    assert await world.hub.log.entities("") == before


async def test_a_crash_in_the_middle_is_gone_on_with(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keeping_module, "STEP_EVENTS", 2)
    path = tmp_path / "events.db"
    world = World(SqliteEventLog(path, ProgressProjection(), clock), clock)
    await world.hub.start()
    for _ in range(3):
        await world.work()
    await world.hub.publish([Event(FORGOTTEN, {}, id="f", prd_id="P", source="daemon", at=1)])
    assert await world.hub.log.blank(2) is True
    assert list((await world.stored()).values()).count(BLANK) == 2
    # What a kill leaves: the file as it is, without a clean stop.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in tmp_path.glob("events.db*"):
        (crashed / file.name).write_bytes(file.read_bytes())
    await world.hub.stop()

    after = World(SqliteEventLog(crashed / "events.db", ProgressProjection(), clock), clock)
    await after.hub.start()
    await after.keeping.finish()
    assert SECRET not in str(await after.stored())
    assert list((await after.stored()).values()).count(BLANK) == 9
    assert await after.hub.log.blank(100) is False
    await after.hub.stop()
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in crashed.iterdir())


async def test_it_is_finished_when_nobody_waits_any_more(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeping_module, "STEP_EVENTS", 1)
    await world.work()
    asking = asyncio.ensure_future(world.keeping.forget(await world.prd()))
    await eventually(lambda: world.hub.state.head == 4)
    asking.cancel()

    async def is_blank() -> bool:
        return SECRET not in str(await world.stored())

    await eventually(is_blank)


steps = st.lists(
    st.tuples(
        st.sampled_from([FORGOTTEN, "prd.started", "prd.completed", "story.started", "test.run", "prd.archived"]),
        st.sampled_from(["P", "P2"]),
        st.sampled_from([None, "US-1", "US-2"]),
        st.sampled_from([None, None, "r1"]),
    ),
    max_size=30,
)


@given(steps, st.data())
def test_a_rebuild_equals_the_read_model_whatever_is_forgotten_and_pruned(drawn: list[Any], data: st.DataObject):
    async def run() -> None:
        log = MemoryEventLog(ProgressProjection(), SystemClock())
        hub = Hub(log, EventBus())
        await hub.start()
        events = [
            Event(type_, {}, id=f"e{n}", prd_id=prd, story_id=story, run_id=run, source="t", at=n)
            for n, (type_, prd, story, run) in enumerate(drawn)
        ]
        while events:
            size = data.draw(st.integers(1, 8))
            await hub.publish(events[:size])
            del events[:size]
            if data.draw(st.booleans()):
                await log.blank(100)
            if data.draw(st.booleans()):
                await log.prune(0, data.draw(st.integers(0, 10)), 3)
        before = await log.entities("")
        await log.rebuild()
        assert await log.entities("") == before
        await log.blank(100)
        await log.rebuild()
        assert await log.entities("") == before
        await hub.stop()

    asyncio.run(run())
