"""Publishing, and readers that replay and then follow, on both logs and with a ring so small that reading is common."""

import asyncio

import pytest

from claude_loop import hub as hub_module
from claude_loop.clock import ManualClock
from claude_loop.errors import IdConflict, ShuttingDown, StorageFailed
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.base import SpoolOffset
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.hub import BATCH_BYTES, BATCH_EVENTS, SHARED_BATCHES, Hub
from claude_loop.ids import Cursor, id_digest
from claude_loop.ring import Ring
from claude_loop.subscription import Batch, Reset, Start
from tests.support import PATIENCE, eventually

ODD = Filter(types=("odd.*",))
# Everything, but not in the batches that the bus's own reader has asked for.
ALL = Filter(types=("*",))


class Gated:
    """A log whose reads are counted, wait while ``gate`` is shut, and fail while ``broken`` is set.

    The bus's reader passes by unless ``for_bus`` is set.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.reads = 0
        self.broken = False
        self.for_bus = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, after, limit, filter_=MATCH_ALL, **options):
        if self.for_bus or not filter_.is_empty:
            self.reads += 1
            await self.gate.wait()
            if self.broken:
                raise StorageFailed("The event log cannot be read: a test says so.")
        return await super().read(after, limit, filter_, **options)


class GatedMemory(Gated, MemoryEventLog):
    pass


class GatedSqlite(Gated, SqliteEventLog):
    pass


class Bench:
    """A running hub; ``publish(n)`` stores the next n events, of types odd.1, even.2, odd.3, …"""

    def __init__(self, log, clock):
        self.log = log
        self.clock = clock
        self.bus = EventBus()
        self.hub = Hub(log, self.bus, ring=Ring(max_events=4))
        self.published = 0

    def make(self, number, **fields):
        type_ = f"{'odd' if number % 2 else 'even'}.{number}"
        return Event(type_, fields.pop("data", {"n": number}), id=f"id-{number}", at=1, source="test", **fields)

    async def publish(self, count, **fields):
        first = self.published + 1
        self.published += count
        return await self.hub.publish([self.make(first + n, **fields) for n in range(count)])

    async def subscribe(self, filter_=MATCH_ALL, start=None):
        return await self.hub.subscribe(filter_, Start.parse(start))

    async def reader(self, filter_=ALL, start="start"):
        return (await self.subscribe(filter_, start)).subscription

    async def cursor(self, seq):
        return str(await self.hub.cursor_at(seq))


@pytest.fixture(params=["memory", "sqlite"])
async def bench(request, tmp_path):
    clock = ManualClock()
    log = GatedMemory(clock=clock) if request.param == "memory" else GatedSqlite(tmp_path / "events.db", clock=clock)
    bench = Bench(log, clock)
    await bench.hub.start()
    yield bench
    log.gate.set()
    await bench.hub.stop()


async def take(subscription, upto, seconds=PATIENCE):
    """The seqs a reader gets until its cursor is at ``upto``; each batch begins where the one before ended."""
    seen = []
    async with asyncio.timeout(seconds):
        while subscription.cursor.seq < upto:
            before = subscription.cursor
            batch = await subscription.next()
            assert isinstance(batch, Batch), batch
            assert batch.after == before
            assert batch.upto == subscription.cursor
            assert all(before.seq < event.seq <= batch.upto.seq for event in batch.events)
            seen += [event.seq for event in batch.events]
    return seen


# -- where a reader begins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "first"),
    [
        (None, 13),
        ("now", 13),
        ("start", 1),
        ({"last": 0}, 13),
        ({"last": 1}, 12),
        ({"last": 10}, 3),
        ({"last": 1000}, 1),
    ],
)
async def test_a_reader_begins_where_it_says(bench, start, first):
    await bench.publish(12)
    opened = await bench.subscribe(start=start)
    assert (opened.status, opened.reason) == ("fresh", None)
    await bench.publish(1)
    assert await take(opened.subscription, 13) == list(range(first, 14))


async def test_the_last_events_are_the_last_that_match(bench):
    await bench.publish(12)
    assert await take(await bench.reader(ODD, {"last": 3}), 12) == [7, 9, 11]
    assert await take(await bench.reader(ODD, {"last": 99}), 12) == [1, 3, 5, 7, 9, 11]
    nothing = await bench.reader(Filter(types=("none",)), {"last": 3})
    assert nothing.cursor == bench.hub.state.head_cursor


async def test_since_is_the_time_of_receipt(bench):
    await bench.publish(3)
    bench.clock.advance(60)
    middle = bench.clock.now_us() / 1_000_000
    await bench.publish(3)
    assert await take(await bench.reader(start={"since": middle}), 6) == [4, 5, 6]
    bench.clock.advance(60)
    later = await bench.reader(start={"since": bench.clock.now_us() / 1_000_000})
    assert later.cursor == bench.hub.state.head_cursor
    assert await take(await bench.reader(start={"since": 0}), 6) == [1, 2, 3, 4, 5, 6]


async def test_an_empty_log_has_a_place_to_begin_as_well(bench):
    readers = [await bench.reader(start=start) for start in ("now", "start", {"last": 5}, {"since": 0})]
    assert {reader.cursor for reader in readers} == {bench.hub.state.head_cursor}
    again = await bench.subscribe(start=str(readers[0].cursor))
    assert again.status == "resumed"
    await bench.publish(2)
    for reader in (*readers, again.subscription):
        assert await take(reader, 2) == [1, 2]


async def test_every_cursor_resumes_right_behind_itself(bench):
    await bench.publish(12)
    for seq in range(13):
        opened = await bench.subscribe(start=await bench.cursor(seq))
        assert (opened.status, opened.reason) == ("resumed", None)
        assert await take(opened.subscription, 12) == list(range(seq + 1, 13))


# -- replaying, then following -----------------------------------------------------------------------------------------


async def test_replay_goes_over_into_following_without_gap_or_doubling(bench):
    await bench.publish(300)
    readers = [await bench.reader(), await bench.reader(ODD), await bench.reader(start={"last": 17})]
    reading = [asyncio.ensure_future(take(reader, 900)) for reader in readers]
    for _ in range(60):
        await bench.publish(10)
        await asyncio.sleep(0)
    everything, odd, last = await asyncio.gather(*reading)
    assert everything == list(range(1, 901))
    assert odd == list(range(1, 901, 2))
    assert last == list(range(284, 901))


async def test_events_published_while_an_old_page_is_read_follow_it(bench):
    await bench.publish(20)
    bench.log.gate.clear()
    reader = await bench.reader()
    reading = asyncio.ensure_future(take(reader, 40))
    await eventually(lambda: bench.log.reads == 1)
    await bench.publish(20)
    bench.log.gate.set()
    assert await reading == list(range(1, 41))


async def test_a_filter_that_passes_nothing_still_moves_the_cursor(bench):
    await bench.publish(12)
    reader = await bench.reader(Filter(types=("none",)))
    assert await take(reader, 12) == []
    assert reader.cursor == bench.hub.state.head_cursor


async def test_a_filter_may_be_replaced_on_the_way(bench):
    await bench.publish(6)
    reader = await bench.reader(ODD)
    assert await take(reader, 6) == [1, 3, 5]
    reader.filter = Filter(types=("even.*",))
    await bench.publish(6)
    assert await take(reader, 12) == [8, 10, 12]


async def test_lag_counts_the_events_ahead(bench):
    reader = await bench.reader(start="now")
    assert reader.lag == 0
    await bench.publish(5)
    assert reader.lag == 5
    await take(reader, 5)
    assert reader.lag == 0


@pytest.mark.parametrize("from_log", [True, False])
async def test_batches_are_bounded_by_bytes_and_count(tmp_path, from_log):
    bench = Bench(SqliteEventLog(tmp_path / "events.db"), ManualClock())
    if not from_log:
        bench.hub = Hub(bench.log, bench.bus)
    await bench.hub.start()
    await bench.publish(40, data={"text": "x" * 10_000})
    await bench.publish(1, data={"text": "x" * 60_000})
    await bench.publish(BATCH_EVENTS * 2)
    reader = await bench.reader()
    seen = []
    while reader.lag:
        batch = await reader.next()
        size = sum(len(event.json) for event in batch.events)
        assert len(batch.events) == 1 or size <= BATCH_BYTES
        assert len(batch.events) <= BATCH_EVENTS
        seen += [event.seq for event in batch.events]
    assert seen == list(range(1, bench.published + 1))
    await bench.hub.stop()


async def test_a_reader_that_is_cancelled_while_it_waits_misses_nothing(bench):
    reader = await bench.reader(start="now")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reader.next()
    await bench.publish(2)
    assert await take(reader, 2) == [1, 2]


# -- resets ------------------------------------------------------------------------------------------------------------


async def test_each_reason_for_a_reset_and_where_it_leads(bench):
    await bench.publish(12)
    pruned = await bench.cursor(3)
    await bench.log.prune(0, 6, 100)
    state = bench.hub.state
    ninth = await bench.hub.cursor_at(9)
    cases = {
        "epoch": (Cursor("0" * 16, 9, ninth.digest), state.head_cursor),
        "ahead": (Cursor(state.epoch, 13, ninth.digest), state.head_cursor),
        "diverged": (Cursor(state.epoch, 9, id_digest("another")), state.head_cursor),
        "trimmed": (pruned, state.trimmed_cursor),
    }
    for reason, (cursor, goes_on) in cases.items():
        opened = await bench.subscribe(start=str(cursor))
        assert (opened.status, opened.reason, opened.subscription.cursor) == ("reset", reason, goes_on)
    for cursor in (state.trimmed_cursor, await bench.hub.cursor_at(7), state.head_cursor):
        assert (await bench.subscribe(start=str(cursor))).status == "resumed"
    wrong_edge = Cursor(state.epoch, state.first - 1, id_digest("another"))
    assert (await bench.subscribe(start=str(wrong_edge))).reason == "diverged"


async def test_a_position_that_is_gone_is_the_oldest_one_there_is(bench):
    await bench.publish(12)
    await bench.log.prune(0, 6, 100)
    assert await bench.hub.cursor_at(2) == bench.hub.state.trimmed_cursor
    for filter_ in (MATCH_ALL, ALL):
        assert await take(await bench.reader(filter_, {"last": 100}), 12) == list(range(7, 13))
    assert (await bench.reader(MATCH_ALL, {"last": 100})).cursor == bench.hub.state.trimmed_cursor
    assert await take(await bench.reader(start="start"), 12) == list(range(7, 13))


async def test_a_reader_that_lags_behind_the_trim_edge_is_told_and_goes_on_there(bench):
    await bench.publish(12)
    reader = await bench.reader()
    await bench.log.prune(0, 6, 100)
    assert await reader.next() == Reset("trimmed", bench.hub.state.trimmed_cursor)
    assert await take(reader, 12) == list(range(7, 13))


async def test_what_was_shared_before_is_not_taken_for_what_is_there_now(bench):
    """A reset is told afresh to each reader who comes to the place: what is oldest changes."""
    await bench.publish(12)
    early, late = await bench.reader(), await bench.reader()
    bench.log.gate.clear()
    reading = asyncio.ensure_future(early.next())
    await eventually(lambda: bench.log.reads == 1)
    await bench.log.prune(0, 6, 100)
    bench.log.gate.set()
    assert await reading == Reset("trimmed", (await bench.hub.cursor_at(6)))
    await bench.log.prune(0, 3, 100)
    assert await late.next() == Reset("trimmed", (await bench.hub.cursor_at(9)))


async def test_an_event_that_is_pruned_is_not_served_from_memory(tmp_path):
    bench = Bench(MemoryEventLog(), ManualClock())
    bench.hub = Hub(bench.log, bench.bus)
    await bench.hub.start()
    await bench.publish(12)
    reader = await bench.reader()
    await bench.log.prune(0, 6, 100)
    assert await reader.next() == Reset("trimmed", bench.hub.state.trimmed_cursor)
    await bench.hub.stop()


async def test_pruning_while_a_cursor_is_checked_is_announced(bench):
    await bench.publish(12)
    cursor = await bench.cursor(3)
    digest_at = bench.log.digest_at

    async def late(seq):
        await bench.log.prune(0, 6, 100)
        return await digest_at(seq)

    bench.log.digest_at = late
    opened = await bench.subscribe(start=cursor)
    assert (opened.status, opened.reason) == ("reset", "trimmed")
    assert await take(opened.subscription, 12) == list(range(7, 13))


async def test_pruning_right_behind_a_reader_is_no_gap(bench):
    await bench.publish(12)
    reader = await bench.reader(start=await bench.cursor(6))
    await bench.log.prune(0, 6, 100)
    assert bench.hub.state.first == 7
    assert await take(reader, 12) == list(range(7, 13))


async def test_pruning_while_a_page_is_read_is_announced(bench):
    await bench.publish(12)
    bench.log.gate.clear()
    reader = await bench.reader()
    reading = asyncio.ensure_future(reader.next())
    await eventually(lambda: bench.log.reads == 1)
    await bench.log.prune(0, 6, 100)
    bench.log.gate.set()
    assert await reading == Reset("trimmed", bench.hub.state.trimmed_cursor)
    assert await take(reader, 12) == list(range(7, 13))


@pytest.mark.parametrize("filter_", [ODD, Filter(types=("none",))])
async def test_pruning_between_a_page_and_its_cursor_hides_nothing(bench, filter_):
    """The page was searched up to what was the head; by the time its cursor is made, that event is gone as well."""
    await bench.publish(12)
    reader = await bench.reader(filter_)
    read, digest_at = bench.log.read, bench.log.digest_at

    async def slow_read(after, limit, wanted=MATCH_ALL, **options):
        page = await read(after, limit, wanted, **options)
        if wanted == filter_ and page.upto == 12:
            await bench.publish(12)  # the ring no longer has the twelfth
        return page

    async def late_digest(seq):
        if seq == 12:
            await bench.log.prune(0, 3, 100)
        return await digest_at(seq)

    bench.log.read, bench.log.digest_at = slow_read, late_digest
    seen, resets = [], []
    async with asyncio.timeout(PATIENCE):
        while reader.lag:
            outcome = await reader.next()
            if isinstance(outcome, Reset):
                resets.append(outcome)
            else:
                seen += [event.seq for event in outcome.events]
    assert bench.hub.state.first == 22
    assert resets == [Reset("trimmed", bench.hub.state.trimmed_cursor)]
    assert seen == ([1, 3, 5, 7, 9, 11, 23] if filter_ == ODD else [])


# -- sharing -----------------------------------------------------------------------------------------------------------


async def test_a_hundred_readers_share_one_read_and_one_batch(bench):
    await bench.publish(20)
    readers = [await bench.reader(Filter(types=("odd.*", "even.*"))) for _ in range(100)]
    bench.log.gate.clear()
    reading = [asyncio.ensure_future(reader.next()) for reader in readers]
    await eventually(lambda: bench.log.reads == 1)
    bench.log.gate.set()
    batches = await asyncio.gather(*reading)
    late = await (await bench.reader(Filter(types=("even.*", "odd.*")))).next()
    assert bench.log.reads == 1
    assert {id(batch) for batch in (*batches, late)} == {id(batches[0])}


async def test_live_readers_share_the_batch_from_the_ring(bench):
    readers = [await bench.reader(start="now") for _ in range(100)]
    reading = [asyncio.ensure_future(reader.next()) for reader in readers]
    await bench.publish(3)
    batches = await asyncio.gather(*reading)
    assert {id(batch) for batch in batches} == {id(batches[0])}
    assert bench.log.reads == 0


async def test_readers_who_started_apart_meet_at_common_positions(tmp_path):
    bench = Bench(GatedSqlite(tmp_path / "events.db"), ManualClock())
    bench.hub = Hub(bench.log, bench.bus)
    await bench.hub.start()
    await bench.publish(BATCH_EVENTS * 3)
    readers = [await bench.reader(start=await bench.cursor(seq)) for seq in (0, 1, 100, 255)]
    firsts = [await reader.next() for reader in readers]
    assert {batch.upto.seq for batch in firsts} == {BATCH_EVENTS}
    assert len({id(await reader.next()) for reader in readers}) == 1
    await bench.hub.stop()


async def test_what_is_shared_is_bounded(bench):
    await bench.publish(SHARED_BATCHES * 3)
    for seq in range(SHARED_BATCHES * 3):
        await (await bench.reader(start=await bench.cursor(seq))).next()
        assert len(bench.hub._batches) <= SHARED_BATCHES


@pytest.mark.parametrize("cancelled", ["first", "second", "all"])
async def test_a_reader_cancelled_during_a_shared_read_leaves_it_to_the_others(bench, cancelled):
    await bench.publish(20)
    readers = [await bench.reader() for _ in range(3)]
    bench.log.gate.clear()
    reading = [asyncio.ensure_future(reader.next()) for reader in readers]
    await eventually(lambda: bench.log.reads == 1)
    gone = {"first": [0], "second": [1], "all": [0, 1, 2]}[cancelled]
    for index in gone:
        reading[index].cancel()
    await asyncio.sleep(0)
    late = await bench.reader()
    reading.append(asyncio.ensure_future(late.next()))
    await asyncio.sleep(0)
    bench.log.gate.set()
    outcomes = await asyncio.gather(*reading, return_exceptions=True)
    for index, outcome in enumerate(outcomes):
        if index in gone:
            assert isinstance(outcome, asyncio.CancelledError)
        else:
            assert [event.seq for event in outcome.events] == list(range(1, 21))
    assert bench.log.reads == 1
    for reader in (*readers, late):
        assert await take(reader, 20) in ([], list(range(1, 21)))
        assert reader.cursor.seq == 20


async def test_one_waiter_cancelled_at_the_live_edge_wakes_or_breaks_no_other(bench):
    readers = [await bench.reader(start="now") for _ in range(5)]
    reading = [asyncio.ensure_future(reader.next()) for reader in readers]
    await asyncio.sleep(0)
    reading[0].cancel()
    reading[3].cancel()
    await asyncio.sleep(0)
    assert [task.done() for task in reading] == [True, False, False, True, False]
    await bench.publish(1)
    outcomes = await asyncio.gather(*reading, return_exceptions=True)
    assert [isinstance(outcome, Batch) for outcome in outcomes] == [False, True, True, False, True]


async def test_a_shared_future_may_be_cancelled_by_whoever_holds_it(bench):
    kept, dropped = bench.hub.next_commit(), bench.hub.next_commit()
    dropped.cancel()
    await bench.publish(1)
    async with asyncio.timeout(PATIENCE):
        assert await kept is None


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_a_failed_read_reaches_every_reader_moves_none_and_is_tried_again(bench):
    await bench.publish(20)
    readers = [await bench.reader() for _ in range(3)]
    bench.log.broken = True
    outcomes = await asyncio.gather(*(reader.next() for reader in readers), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageFailed] * 3
    assert bench.log.reads == 1
    assert {reader.cursor.seq for reader in readers} == {0}
    bench.log.broken = False
    for reader in readers:
        assert await take(reader, 20) == list(range(1, 21))


async def test_a_file_that_cannot_be_read_is_a_failure_with_a_code(tmp_path):
    path = tmp_path / "events.db"
    bench = Bench(SqliteEventLog(path), ManualClock())
    await bench.hub.start()
    await bench.publish(20)
    await bench.hub.stop()
    bench = Bench(SqliteEventLog(path), ManualClock())
    await bench.hub.start()
    reader = await bench.reader()
    path.rename(tmp_path / "moved.db")
    path.mkdir()
    with pytest.raises(StorageFailed):
        await reader.next()
    path.rmdir()
    (tmp_path / "moved.db").rename(path)
    assert await take(reader, 20) == list(range(1, 21))
    await bench.hub.stop()


async def test_the_bus_survives_a_log_that_cannot_be_read(bench, monkeypatch):
    monkeypatch.setattr(hub_module, "BUS_RETRY", 0.01)
    heard, release = [], asyncio.Event()

    async def slow(event):
        heard.append(event.seq)
        await release.wait()

    bench.bus.subscribe("*", slow)
    await bench.publish(1)
    await eventually(lambda: heard == [1])
    await bench.publish(20)
    bench.log.broken = bench.log.for_bus = True
    release.set()
    await eventually(lambda: bench.log.reads >= 3)
    bench.log.broken = False
    await eventually(lambda: heard == list(range(1, 22)))


# -- the bus -----------------------------------------------------------------------------------------------------------


async def test_the_bus_hears_of_an_event_after_the_log_has_it(bench):
    seen = []

    async def look(event):
        page = await bench.hub.log.read(event.seq - 1, 1)
        seen.append((event.seq, bench.hub.state.head >= event.seq, page.events[0].id == event.id))

    bench.bus.subscribe("*", look)
    await bench.publish(3)
    await eventually(lambda: len(seen) == 3)
    assert seen == [(1, True, True), (2, True, True), (3, True, True)]


async def test_the_bus_hears_of_what_is_published_right_after_the_start(tmp_path):
    bench = Bench(MemoryEventLog(), ManualClock())
    await bench.hub.start()
    await bench.publish(1)
    await eventually(lambda: [event.seq for event in bench.bus.get_history()] == [1])
    await bench.hub.stop()


async def test_without_handlers_the_bus_keeps_its_history_all_the_same(bench):
    await bench.publish(300)
    await eventually(lambda: bench.bus.get_stats()["total_events"] == 300)
    assert [event.seq for event in bench.bus.get_history(limit=2)] == [300, 299]


async def test_a_handler_that_hangs_delays_neither_publishers_nor_readers(bench):
    entered, release = asyncio.Event(), asyncio.Event()
    heard = []

    async def hang(event):
        heard.append(event.seq)
        entered.set()
        await release.wait()

    bench.bus.subscribe("*", hang)
    reader = await bench.reader(start="now")
    await bench.publish(1)
    await entered.wait()
    async with asyncio.timeout(PATIENCE):
        for _ in range(30):
            await bench.publish(10)
        assert await take(reader, 301) == list(range(1, 302))
    assert heard == [1]
    release.set()
    await eventually(lambda: heard == list(range(1, 302)))


async def test_a_handler_that_raises_stops_neither_the_bus_nor_anything_else(bench):
    heard = []

    def fail(event):
        heard.append(event.seq)
        raise RuntimeError("a handler of somebody's")

    bench.bus.subscribe("*", fail)
    await bench.publish(3)
    await eventually(lambda: heard == [1, 2, 3])
    assert bench.bus.handler_failures == 3


async def test_a_handler_may_publish(bench):
    async def answer(event):
        if event.type == "odd.1":
            await bench.hub.publish([Event("answer.made", {}, id="answer", at=1, source="test")])

    bench.bus.subscribe("*", answer)
    await bench.publish(1)
    await eventually(lambda: [e.type for e in bench.bus.get_history()] == ["answer.made", "odd.1"])


# -- publishing and stopping -------------------------------------------------------------------------------------------


async def test_publishing_answers_for_each_event(bench):
    assert [outcome.seq for outcome in await bench.publish(2)] == [1, 2]
    (again,) = await bench.hub.publish([bench.make(2)])
    assert (again.seq, again.duplicate, again.error) == (2, True, None)
    conflict, fresh = await bench.hub.publish([bench.make(2, data={"n": "other"}), bench.make(3)])
    assert isinstance(conflict.error, IdConflict)
    assert fresh.seq == 3
    await bench.hub.submit_made(list, 0, [SpoolOffset("a.jsonl", 7, 99)])
    assert await bench.hub.log.spool_offsets() == [SpoolOffset("a.jsonl", 7, 99)]


async def test_the_order_of_calls_is_the_order_in_the_log(bench):
    waiting = [bench.hub.submit([bench.make(n)]) for n in range(1, 200)]
    outcomes = await asyncio.gather(*waiting)
    assert [outcome.seq for (outcome,) in outcomes] == list(range(1, 200))


async def test_stopping_finishes_what_was_submitted(tmp_path):
    path = tmp_path / "events.db"
    bench = Bench(SqliteEventLog(path), ManualClock())
    await bench.hub.start()
    waiting = [bench.hub.submit([bench.make(n)]) for n in range(1, 500)]
    await bench.hub.stop()
    outcomes = await asyncio.gather(*waiting)
    assert [outcome.seq for (outcome,) in outcomes] == list(range(1, 500))
    again = Bench(SqliteEventLog(path), ManualClock())
    await again.hub.start()
    assert again.hub.state.head == 499
    await again.hub.stop()


async def test_stopping_tells_readers_that_wait_and_refuses_everything_after(bench):
    readers = [await bench.reader(start="now") for _ in range(3)]
    reading = [asyncio.ensure_future(reader.next()) for reader in readers]
    await bench.publish(20)
    await asyncio.gather(*reading)
    old = await bench.reader(start=await bench.cursor(5))
    bench.log.gate.clear()
    bench.log.reads = 0
    reading = [asyncio.ensure_future(reader.next()) for reader in (*readers, old)]
    await eventually(lambda: bench.log.reads == 1)
    async with asyncio.timeout(PATIENCE):
        await bench.hub.stop()
        outcomes = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ShuttingDown] * 4
    async with asyncio.timeout(PATIENCE):
        for refused in (readers[0].next, old.next, bench.subscribe, lambda: bench.publish(1)):
            with pytest.raises(ShuttingDown):
                await refused()


@pytest.mark.parametrize("turns", range(6))
async def test_a_reader_cancelled_by_its_owner_during_the_stop_is_cancelled(bench, turns):
    """Whichever comes first, the owner's cancellation or that of the read which the reader waits for."""
    await bench.publish(20)
    reader = await bench.reader()
    bench.log.gate.clear()
    reading = asyncio.ensure_future(reader.next())
    await eventually(lambda: bench.log.reads == 1)
    stopping = asyncio.ensure_future(bench.hub.stop())
    for _ in range(turns):
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError if reading.cancel() else ShuttingDown):
        await reading
    await stopping
