"""A channel at work, on a clock of its own: refusals, an hour without answer, quiet hours, crashes."""

import time
from contextlib import asynccontextmanager

import pytest

from claude_loop.clock import ManualClock
from claude_loop.delivery.channel import LONGEST_WAIT, Channel
from claude_loop.delivery.dispatch import Outcome
from claude_loop.delivery.messages import Plan
from claude_loop.delivery.outbox import Outbox
from claude_loop.supervision import TaskOwner
from tests.support import eventually
from tests.unit.delivery.rig import FakeDispatch, looked, target, waiting

REFUSED = Outcome(sent=False, reason="refused with status 503")
# 26 January 2026, 12:00 UTC
NOON_MS = 1_769_428_800_000


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def outbox(tmp_path):
    one = Outbox(tmp_path / "notify.db")
    one.begin_channels(["phone"], 0)
    yield one
    one.close()


@asynccontextmanager
async def at_work(outbox, dispatch, clock, **settings):
    async def ask(work):
        return work(outbox)

    channel = Channel(
        target(**settings), ask, dispatch, clock, lambda: "http://127.0.0.1:1", lambda: None, longest_sleep=0.01
    )
    tasks = TaskOwner("test")
    tasks.spawn(channel.run(), "channel")
    try:
        yield channel
    finally:
        await tasks.close()


def begin(outbox, clock, **facts):
    now = clock.now_us() // 1000
    looked(outbox, (waiting(since=now, **facts), [Plan("phone", now)]), now=now)


async def test_the_message_says_what_is_needed_and_leads_there(outbox, clock):
    dispatch = FakeDispatch()
    begin(outbox, clock)
    clock.advance(240)
    async with at_work(outbox, dispatch, clock, urgent=("waiting",)):
        await eventually(outbox.unlogged)
    (message,) = dispatch.messages
    assert message["text"] == "SHOP-7 waits for you: permission Bash rm -rf build (4 min)"
    assert message["url"] == "http://127.0.0.1:1/prd/SHOP-7?project=shop"
    assert (message["urgency"], message["phase"], message["attempt"]) == ("urgent", "alert", 1)


async def test_all_that_is_said_of_one_cause_has_one_cause_id(outbox, clock):
    """The alert, its repetition and its end, each a message of its own; another wait is another cause."""
    dispatch = FakeDispatch()
    begin(outbox, clock)
    async with at_work(outbox, dispatch, clock, repeat_minutes=5, repeat_times=1):
        await eventually(lambda: len(outbox.unlogged()) == 1)
        clock.advance(301)
        await eventually(lambda: len(outbox.unlogged()) == 2)
        looked(outbox, now=clock.now_us() // 1000)  # it no longer waits
        await eventually(lambda: len(dispatch.messages) == 3)
        clock.advance(60)
        begin(outbox, clock)
        await eventually(lambda: len(dispatch.messages) == 4)
    said = [(message["phase"], message["step"]) for message in dispatch.messages]
    assert said == [("alert", 0), ("alert", 1), ("resolved", 0), ("alert", 0)]
    causes = [message["cause_id"] for message in dispatch.messages]
    assert causes[0] == causes[1] == causes[2] != causes[3]
    assert causes[0] == dispatch.messages[0]["message_id"]
    assert len({message["message_id"] for message in dispatch.messages}) == 4


async def test_a_channel_that_is_down_for_an_hour_gets_it_then_once(outbox, clock):
    dispatch = FakeDispatch(REFUSED)
    begin(outbox, clock)
    async with at_work(outbox, dispatch, clock) as channel:
        for _ in range(12):
            attempts = len(dispatch.messages)
            await eventually(lambda before=attempts: len(dispatch.messages) > before)
            await eventually(lambda: channel.failing_since and not outbox.left_sending("phone"))
            if clock.now_us() // 1000 - NOON_MS > 3_600_000:
                break
            clock.advance(LONGEST_WAIT * 1.25)
        assert channel.last_reason == "refused with status 503"
        assert len(dispatch.messages) < 12
        dispatch.outcomes = [Outcome(sent=True)]
        clock.advance(LONGEST_WAIT * 1.25)
        await eventually(outbox.unlogged)
        assert channel.failing_since is None
    assert outbox.counts()["phone"] == {"sent": 1}


async def test_waits_grow_and_all_of_a_channel_waits_together(outbox, clock):
    dispatch = FakeDispatch(REFUSED)
    begin(outbox, clock)
    async with at_work(outbox, dispatch, clock) as channel:
        await eventually(lambda: channel.failing_since)
        other = waiting(since=clock.now_us() // 1000 + 1, kind="vanished")
        looked(outbox, (waiting(since=NOON_MS), []), (other, [Plan("phone", 0)]))
        channel.wake()
        clock.advance(4.9)
        assert await outbox_rests(channel, dispatch, 1)
        clock.advance(1.5)
        await eventually(lambda: len(dispatch.messages) == 2)
    assert dispatch.messages[1]["kind"] == "vanished"  # what was never tried comes first


async def outbox_rests(channel, dispatch, count):
    """Whether the channel has looked again and sent nothing."""
    channel.wake()
    await eventually(lambda: not channel._news.is_set())
    return len(dispatch.messages) == count


async def test_quiet_hours_hold_back_what_is_not_urgent_until_their_end(outbox, clock, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    clock.advance(11 * 3600)  # 23:00
    dispatch = FakeDispatch()
    begin(outbox, clock)
    async with at_work(outbox, dispatch, clock, quiet_hours="22:00-07:00") as channel:
        await eventually(lambda: outbox.next_due_at("phone") == NOON_MS + 19 * 3_600_000)
        assert await outbox_rests(channel, dispatch, 0)
        clock.advance(8 * 3600)
        await eventually(lambda: dispatch.messages)
    assert dispatch.texts == ["SHOP-7 waits for you: permission Bash rm -rf build (8 h 0 min)"]
    monkeypatch.undo()
    time.tzset()


async def test_what_is_urgent_passes_in_quiet_hours(outbox, clock):
    dispatch = FakeDispatch()
    begin(outbox, clock)
    async with at_work(outbox, dispatch, clock, quiet_hours="00:00-23:59", urgent=("waiting",)):
        await eventually(lambda: dispatch.messages)


@pytest.mark.parametrize(
    ("receipt", "sends"), [(Outcome(sent=True), 0), (Outcome(sent=False, reason="refused"), 0), (None, 1)]
)
async def test_what_a_crash_interrupted_is_settled_by_the_receipt(outbox, clock, receipt, sends):
    begin(outbox, clock)
    message = outbox.due("phone", NOON_MS)
    outbox.sending(message, NOON_MS)
    dispatch = FakeDispatch()
    if receipt is not None:
        dispatch.receipts[message.message_id] = receipt
    async with at_work(outbox, dispatch, clock):
        await eventually(lambda: not outbox.left_sending("phone"))
        if sends:
            await eventually(outbox.unlogged)
    assert len(dispatch.messages) == sends
    assert all(one["message_id"] == message.message_id for one in dispatch.messages)


async def test_a_clock_that_is_set_back_keeps_nothing_waiting_for_a_day(outbox, clock):
    dispatch = FakeDispatch(REFUSED, Outcome(sent=True))
    begin(outbox, clock)
    async with at_work(outbox, dispatch, clock):
        await eventually(lambda: dispatch.messages)
        clock.step_wall(-86_400)
        clock.advance(10)
        await eventually(lambda: len(dispatch.messages) == 2)
