import asyncio

from claude_loop.clock import ManualClock
from claude_loop.eventlog import retention as module
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.retention import Retention
from claude_loop.events import Event


async def filled(clock, count, start=0):
    log = MemoryEventLog(clock=clock)
    await log.open(nobody)
    await log.append([Event("a.b", {}, id=f"e{n}", source="t") for n in range(start, start + count)])
    return log


async def test_whichever_bound_is_reached_first_prunes(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)
    clock = ManualClock()
    log = await filled(clock, 1200)
    assert await Retention(log, clock, days=90, events=1000).prune() == 200
    clock.advance(90 * 86_400 - 1)
    assert await Retention(log, clock, days=90, events=1000).prune() == 0
    clock.advance(2)
    assert await Retention(log, clock, days=90, events=1000).prune() == 1000
    assert (log.state.first, log.state.head) == (1201, 1200)


async def test_a_clock_that_jumps_ahead_makes_nothing_old_before_a_day_is_over(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)
    clock = ManualClock()
    log = await filled(clock, 10)
    retention = Retention(log, clock, days=90, events=1000)
    clock.step_wall(400 * 86_400)
    assert await retention.prune() == 0
    clock.advance(86_000)
    assert await retention.prune() == 0
    clock.step_wall(-400 * 86_400)  # it was wrong, and is set right
    assert await retention.prune() == 0
    clock.step_wall(400 * 86_400)  # it was right, and stays
    assert await retention.prune() == 0
    clock.advance(86_401)
    assert await retention.prune() == 10


async def test_it_goes_in_steps_and_leaves_room_between_them(monkeypatch):
    clock = ManualClock()
    log = await filled(clock, 1100)
    pauses = []
    real_sleep = asyncio.sleep

    async def sleep(seconds):
        pauses.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    assert await Retention(log, clock, days=1, events=1).prune() == 1099
    assert len(pauses) == 3
    assert min(pauses) > 0
