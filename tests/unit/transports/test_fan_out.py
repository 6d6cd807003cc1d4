"""The fan-out: readers at the live edge advance together, and whoever cannot is left to its own pump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from claude_loop.clock import SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.hub import BATCH_EVENTS, Hub
from claude_loop.ids import new_event_id
from claude_loop.ring import Ring
from claude_loop.subscription import Subscription
from claude_loop.supervision import TaskOwner
from claude_loop.transports.fan_out import FanOut
from claude_loop.transports.feeds import BatchFeed
from claude_loop.transports.outbox import Frame
from claude_loop.transports.pace import Pace, PumpTiming
from tests.support import eventually

CLOCK = SystemClock()


class Outlet:
    """A connection that takes what is written while it is ready."""

    on_polling = False

    def __init__(self) -> None:
        self.ready = True
        self.frames: list[Frame] = []
        self.writes = 0

    def write(self, frames: list[Frame]) -> None:
        self.frames += frames
        self.writes += 1

    def push(self, frames: list[Frame]) -> None:
        raise AssertionError("the fan-out never waits for a client")

    async def drained(self) -> None:
        raise AssertionError("the fan-out never waits for a client")


class Stage:
    """A hub with a fan-out, and readers that follow it."""

    def __init__(self, hub: Hub, timing: PumpTiming) -> None:
        self.hub = hub
        self.owner = TaskOwner("stage")
        self.fan_out = FanOut(hub, Pace(timing), self.owner, timing.quiet)

    def follow(
        self, outlet: Outlet, filter_: Filter = MATCH_ALL, max_batch: int = BATCH_EVENTS
    ) -> tuple[BatchFeed, asyncio.Task[None]]:
        feed = BatchFeed(Subscription(self.hub, filter_, self.hub.state.head_cursor), max_batch)
        return feed, asyncio.create_task(self.fan_out.follow(outlet, feed))

    async def emit(self, count: int = 1, type_: str = "a.b") -> None:
        await self.hub.publish([Event(type_, {}, id=new_event_id(CLOCK)) for _ in range(count)])


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    hub = Hub(MemoryEventLog(), EventBus(), ring=Ring(max_events=500))
    await hub.start()
    made = Stage(hub, PumpTiming(window=0.02, per_pump=0, quiet=0.1))
    yield made
    await made.owner.close()
    await hub.stop()


async def test_readers_share_a_frame_for_all_that_came_within_a_beat(stage: Stage) -> None:
    """Also when the bus, which takes every commit by itself, has been there before in smaller steps."""
    outlets = [Outlet() for _ in range(100)]
    readers = [stage.follow(outlet) for outlet in outlets]
    await stage.emit()
    await eventually(lambda: all(len(outlet.frames) == 1 for outlet in outlets))
    for _ in range(5):
        await stage.emit()
        await asyncio.sleep(0)
    await eventually(lambda: all(str(feed.told) == str(stage.hub.state.head_cursor) for feed, _ in readers))
    assert {len(outlet.frames) for outlet in outlets} == {2}
    assert len({id(outlet.frames[1]) for outlet in outlets}) == 1
    assert not any(task.done() for _, task in readers)


async def test_frames_of_one_event_each_go_out_together(stage: Stage) -> None:
    outlet = Outlet()
    stage.follow(outlet, max_batch=1)
    await stage.emit(200)
    await eventually(lambda: len(outlet.frames) == 200)
    assert outlet.writes == 1


async def test_who_is_not_ready_leaves_and_loses_nothing(stage: Stage) -> None:
    easy, stalled = Outlet(), Outlet()
    stage.follow(easy)
    feed, left = stage.follow(stalled)
    stalled.ready = False
    before = feed.told
    await stage.emit()
    await left
    await eventually(lambda: easy.frames)
    assert stalled.frames == []
    assert feed.told == feed.subscription.cursor == before


async def test_who_is_further_behind_than_memory_reaches_leaves(stage: Stage) -> None:
    feed = BatchFeed(Subscription(stage.hub, MATCH_ALL, stage.hub.state.head_cursor))
    await stage.emit(2000)
    await stage.fan_out.follow(Outlet(), feed)
    assert feed.told.seq == 0


async def test_a_failure_ends_one_reader_and_harms_no_other(stage: Stage) -> None:
    class Broken(Outlet):
        def write(self, frames: list[Frame]) -> None:
            raise OSError("no such connection")

    easy = Outlet()
    _, failed = stage.follow(Broken())
    _, served = stage.follow(easy)
    await stage.emit()
    with pytest.raises(OSError, match="no such connection"):
        await failed
    await eventually(lambda: easy.frames)
    assert not served.done()


async def test_a_reader_whose_pump_was_cancelled_is_served_no_more(stage: Stage) -> None:
    kept, gone = Outlet(), Outlet()
    stage.follow(kept)
    _, task = stage.follow(gone)
    await asyncio.sleep(0)
    task.cancel()
    await stage.emit()
    await eventually(lambda: kept.frames)
    assert gone.frames == []


async def test_a_quiet_reader_is_told_where_it_is(stage: Stage) -> None:
    outlet = Outlet()
    feed, task = stage.follow(outlet, Filter(types=("wanted.*",)))
    await stage.emit(3, "other.kind")
    await eventually(lambda: outlet.frames)
    assert str(feed.told) == str(stage.hub.state.head_cursor)
    await asyncio.sleep(0.25)
    assert len(outlet.frames) == 1, "nothing moved since"
    assert not task.done()


async def test_the_end_of_the_hub_lets_everybody_go(stage: Stage) -> None:
    tasks = [stage.follow(Outlet())[1] for _ in range(3)]
    await asyncio.sleep(0)
    await stage.hub.stop()
    await asyncio.gather(*tasks)
