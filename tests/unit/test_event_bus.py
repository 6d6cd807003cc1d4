from __future__ import annotations

import asyncio
import doctest
import fnmatch
import gc
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from claude_loop import event_bus, events
from claude_loop.clock import ManualClock
from claude_loop.event_bus import Event, EventBus, EventPriority, get_event_bus
from claude_loop.event_handlers import MAX_ROUTES
from claude_loop.event_history import MAX_TYPES, OTHER_TYPES
from tests.support import ROOT


@pytest.fixture
def bus() -> EventBus:
    return EventBus(clock=ManualClock())


class Heard:
    """A handler that remembers; sync, or async when asked."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    async def later(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.events.append(event)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


@pytest.fixture
def heard() -> Heard:
    return Heard()


# --- what an event is -------------------------------------------------------------------------------------------


async def test_emit_makes_a_complete_event(bus: EventBus, heard: Heard) -> None:
    bus.subscribe("*", heard)
    data = {"story_id": "US-001"}
    event = await bus.emit(
        "story.started", data, prd_id="PRD-001", story_id="US-001", run_id="r", session_id="s", project="shop"
    )
    assert heard.events == [event]
    assert Event is events.Event
    assert len(event.id) == 26
    assert event.as_dict() | {"id": ""} == {
        "seq": 0,
        "id": "",
        "type": "story.started",
        "project": "shop",
        "prd_id": "PRD-001",
        "story_id": "US-001",
        "run_id": "r",
        "session_id": "s",
        "source": "python",
        "timestamp": "2026-01-26T12:00:00.000Z",
        "received_at": "2026-01-26T12:00:00.000Z",
        "data": {"story_id": "US-001"},
    }
    data["story_id"] = "changed by the caller"
    assert event.data == {"story_id": "US-001"}


async def test_what_is_left_out_is_empty(bus: EventBus) -> None:
    one, two = await bus.emit("a"), bus.emit_sync("a", None, source="test")
    assert (one.data, one.prd_id, one.story_id, one.source, two.source) == ({}, None, None, "python", "test")
    assert one.id != two.id


# --- patterns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "type_", "matches"),
    [
        ("story.*", "story.started", True),
        ("story.*", "story.a.b", True),
        ("story.*", "story", False),
        ("story.*", "storyx", False),
        ("*", "anything.at_all", True),
        ("*.started", "prd.started", True),
        ("?.b", "a.b", True),
        ("?.b", ".b", False),
        ("a.b", "axb", False),
        ("a[bc]", "ab", False),
        ("a[bc]", "a[bc]", True),
        ("", "a", False),
    ],
)
async def test_patterns(bus: EventBus, heard: Heard, pattern: str, type_: str, matches: bool) -> None:
    bus.subscribe(pattern, heard)
    await bus.emit(type_)
    assert bool(heard.events) == matches
    assert bus.listener_count(type_) == matches
    assert bool(bus.get_history(pattern)) == matches


@given(pattern=st.text("ab.*?", max_size=6), type_=st.text("ab.", min_size=1, max_size=6))
def test_patterns_are_the_shell_s(pattern: str, type_: str) -> None:
    bus, heard = EventBus(), Heard()
    bus.subscribe(pattern, heard)
    bus.emit_sync(type_)
    assert bool(heard.events) == (re.fullmatch(fnmatch.translate(pattern), type_) is not None)


# --- order and isolation ----------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([*EventPriority, 60, -3]), max_size=12))
def test_handlers_run_by_priority_then_by_age(priorities: list[int]) -> None:
    bus = EventBus()
    ran: list[tuple[int, int]] = []

    async def later(place: tuple[int, int], _: Event) -> None:
        ran.append(place)

    for age, priority in enumerate(priorities):
        note = partial(later, (-priority, age)) if age % 2 else lambda _, p=(-priority, age): ran.append(p)
        bus.subscribe("*", note, priority=priority)
    asyncio.run(bus.emit("x"))
    assert ran == sorted(ran)
    assert len(ran) == len(priorities)


def test_the_values_of_priorities_are_in_order() -> None:
    names = ["CRITICAL", "HIGH", "NORMAL", "LOW", "BACKGROUND"]
    assert [priority.name for priority in sorted(EventPriority, reverse=True)] == names


async def test_emit_awaits_each_handler_before_the_next(bus: EventBus) -> None:
    steps = []

    async def slow(_: Event) -> None:
        steps.append("slow begins")
        await asyncio.sleep(0.01)
        steps.append("slow ends")

    bus.subscribe("x", slow, priority=EventPriority.HIGH.value)
    bus.subscribe("x", lambda _: steps.append("next"))
    await bus.emit("x")
    assert steps == ["slow begins", "slow ends", "next"]


def fails(_: Event) -> None:
    raise ValueError("sync")


async def fails_later(_: Event) -> None:
    await asyncio.sleep(0)
    raise ValueError("async")


async def awaits_the_cancelled(_: Event) -> None:
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    await cancelled


def asks_the_cancelled(_: Event) -> None:
    cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    cancelled.result()


@pytest.mark.parametrize("bad", [fails, fails_later, awaits_the_cancelled, asks_the_cancelled])
async def test_a_handler_that_fails_harms_no_other(bus: EventBus, heard: Heard, bad: Any) -> None:
    bus.subscribe("x", bad, priority=EventPriority.CRITICAL.value, name="the bad one")
    bus.subscribe("x", heard)
    with capture_logs() as logs:
        await bus.emit("x")
        bus.emit_sync("x")
        await bus.join()
    assert heard.types == ["x", "x"]
    assert bus.handler_failures == 2
    assert [(entry["event"], entry["handler"], entry["log_level"]) for entry in logs] == [
        ("event handler failed", "the bad one", "error")
    ] * 2
    assert isinstance(logs[0]["exc_info"], ValueError | asyncio.CancelledError)
    bus.reset_stats()
    assert bus.handler_failures == 0


async def test_a_filter_that_fails_is_a_handler_that_fails(bus: EventBus, heard: Heard) -> None:
    bus.subscribe("x", heard, filter_func=lambda event: event.data["missing"])
    with capture_logs() as logs:
        await bus.emit("x")
    assert (heard.events, bus.handler_failures, len(logs)) == ([], 1, 1)


async def test_cancelling_the_emitter_ends_the_emit(bus: EventBus, heard: Heard) -> None:
    entered = asyncio.Event()

    async def endless(_: Event) -> None:
        entered.set()
        await asyncio.Event().wait()

    bus.subscribe("x", endless, priority=EventPriority.HIGH.value)
    bus.subscribe("x", heard)
    emitting = asyncio.get_running_loop().create_task(bus.emit("x"))
    await entered.wait()
    emitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await emitting
    assert (heard.events, bus.handler_failures) == ([], 0)


async def test_a_handler_may_time_out_by_itself(bus: EventBus) -> None:
    async def impatient(_: Event) -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    bus.subscribe("x", impatient)
    with capture_logs():
        await bus.emit("x")
    assert bus.handler_failures == 1


# --- subscribing ------------------------------------------------------------------------------------------------


async def test_filters_choose_among_matching_events(bus: EventBus, heard: Heard) -> None:
    bus.subscribe("x", heard, filter_func=lambda event: event.data["n"] > 1)
    for n in range(4):
        await bus.emit("x", {"n": n})
    assert [event.data["n"] for event in heard.events] == [2, 3]


async def test_on_any_and_on_execution(bus: EventBus, heard: Heard) -> None:
    everything = Heard()
    bus.on_any(everything)
    bus.on_execution("E", heard)
    await bus.emit("a", prd_id="E")
    await bus.emit("b", run_id="E", prd_id="P")
    await bus.emit("c", prd_id="P", story_id="E")
    await bus.emit("d")
    assert everything.types == ["a", "b", "c", "d"]
    assert heard.types == ["a", "b"]


async def test_unsubscribing(bus: EventBus, heard: Heard) -> None:
    first, second = bus.subscribe("*", heard), bus.subscribe("*", heard)
    assert first != second
    assert bus.unsubscribe(first)
    assert not bus.unsubscribe(first)
    assert not bus.unsubscribe("never given out")
    await bus.emit("x")
    assert heard.types == ["x"]
    assert bus.remove_all_listeners() == 1
    await bus.emit("x")
    assert heard.types == ["x"]
    assert bus.listener_count() == 0


def test_ids_of_one_bus_mean_nothing_to_another(heard: Heard) -> None:
    one, other = EventBus(), EventBus()
    other.subscribe("*", heard)
    assert not other.unsubscribe(one.subscribe("*", heard))


def test_handlers_are_listed_in_the_order_of_their_calls(bus: EventBus) -> None:
    bus.subscribe("a.*", fails, name="late", priority=EventPriority.BACKGROUND.value)
    hid = bus.subscribe("b.*", fails)
    bus.once("*", fails_later, priority=EventPriority.HIGH.value)
    assert [handler.name for handler in bus.get_handlers()] == ["fails_later", "fails", "late"]
    assert [handler.pattern for handler in bus.get_handlers("a.x")] == ["*", "a.*"]
    (listed,) = (handler for handler in bus.get_handlers() if handler.id == hid)
    assert (listed.pattern, listed.handler, listed.priority, listed.once) == ("b.*", fails, 50, False)
    assert (bus.listener_count(), bus.listener_count("a.x"), bus.listener_count("c")) == (3, 2, 1)


async def test_a_handler_may_unsubscribe_itself_and_others_and_subscribe_more(bus: EventBus, heard: Heard) -> None:
    ids: dict[str, str] = {}
    new = Heard()

    def meddler(_: Event) -> None:
        bus.unsubscribe(ids["itself"])
        bus.unsubscribe(ids["victim"])
        bus.subscribe("x", new, priority=EventPriority.CRITICAL.value)

    ids["itself"] = bus.subscribe("x", meddler, priority=EventPriority.HIGH.value)
    ids["victim"] = bus.subscribe("x", heard)
    after = Heard()
    bus.subscribe("x", after)
    await bus.emit("x")
    assert (heard.types, new.types, after.types) == ([], [], ["x"])
    await bus.emit("x")
    assert (heard.types, new.types, after.types) == ([], ["x"], ["x", "x"])


async def test_a_handler_may_emit(bus: EventBus, heard: Heard) -> None:
    async def chain(event: Event) -> None:
        await bus.emit("b", {"because": event.id})
        bus.emit_sync("c")

    bus.subscribe("a", chain)
    bus.on_any(heard)
    await bus.emit("a")
    await bus.join()
    assert heard.types == ["b", "c", "a"]


async def test_once_is_once_however_many_are_emitted_together(bus: EventBus, heard: Heard) -> None:
    async def slow(_: Event) -> None:
        await asyncio.sleep(0.001)

    bus.subscribe("x", slow, priority=EventPriority.HIGH.value)
    bus.once("x", heard.later)
    await asyncio.gather(*(bus.emit("x") for _ in range(20)))
    assert len(heard.events) == 1
    assert bus.listener_count("x") == 1


def test_once_is_once_among_threads(bus: EventBus, heard: Heard) -> None:
    for _ in range(50):
        bus.once("x", heard)
    ready = threading.Barrier(4)

    def emit() -> None:
        ready.wait()
        for _ in range(20):
            bus.emit_sync("x")

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard.events) == 50
    assert bus.get_stats() == {"total_events": 80, "by_type": {"x": 80}, "handlers": 0, "history_size": 80}


async def test_once_waits_for_its_filter_and_survives_no_failure(bus: EventBus, heard: Heard) -> None:
    bus.once("x", heard, filter_func=lambda event: event.data.get("n") == 2)
    bus.once("x", fails)
    with capture_logs() as logs:
        for n in range(4):
            await bus.emit("x", {"n": n})
    assert [event.data["n"] for event in heard.events] == [2]
    assert len(logs) == 1
    assert bus.listener_count() == 0


async def test_once_unsubscribed_never_fires(bus: EventBus, heard: Heard) -> None:
    bus.unsubscribe(bus.once("x", heard))
    await bus.emit("x")
    assert heard.events == []


# --- emit_sync --------------------------------------------------------------------------------------------------


def test_without_a_loop_emit_sync_runs_everything_to_the_end(bus: EventBus) -> None:
    ran = []

    async def later(name: str, _: Event) -> None:
        await asyncio.sleep(0.001)
        ran.append(name)

    bus.subscribe("x", partial(later, "low"), priority=EventPriority.LOW.value)
    bus.subscribe("x", partial(later, "high"), priority=EventPriority.HIGH.value)
    bus.subscribe("x", lambda _: ran.append("sync"))
    bus.subscribe("x", lambda event: later("from a lambda", event), priority=-1)
    event = bus.emit_sync("x", {"n": 1}, "PRD-001", "US-001")
    assert ran == ["sync", "high", "low", "from a lambda"]
    assert (event.prd_id, event.story_id) == ("PRD-001", "US-001")
    assert bus.get_history() == [event]


def test_without_a_loop_sync_handlers_have_none(bus: EventBus) -> None:
    """So that they may run one of their own."""
    ran = []
    bus.subscribe("x", lambda _: asyncio.run(asyncio.sleep(0)) or ran.append(1))
    bus.emit_sync("x")
    assert ran == [1]


async def test_inside_a_loop_emit_sync_never_blocks(bus: EventBus, heard: Heard) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Event) -> None:
        started.set()
        await go_on.wait()

    now = Heard()
    bus.subscribe("x", slow, priority=EventPriority.HIGH.value)
    bus.subscribe("x", heard.later)
    bus.subscribe("x", now, priority=EventPriority.LOW.value)
    event = bus.emit_sync("x")
    # Recorded, and the sync handler done; the async ones have not begun.
    assert bus.get_stats()["total_events"] == 1
    assert (bus.get_history(), now.events, heard.events) == ([event], [event], [])
    assert not started.is_set()
    await started.wait()
    assert heard.events == []
    go_on.set()
    await bus.join()
    assert heard.events == [event]


async def test_inside_a_loop_events_keep_their_order(bus: EventBus) -> None:
    ran = []

    async def later(name: str, event: Event) -> None:
        await asyncio.sleep(0.002 - event.data["n"] / 10_000)
        ran.append((event.data["n"], name))

    bus.subscribe("x", partial(later, "low"), priority=EventPriority.LOW.value)
    bus.subscribe("x", partial(later, "high"), priority=EventPriority.HIGH.value)
    for n in range(10):
        bus.emit_sync("x", {"n": n})
        if n % 3 == 0:
            await asyncio.sleep(0)
    await bus.join()
    assert ran == [(n, name) for n in range(10) for name in ("high", "low")]
    await bus.join()


async def test_many_emits_keep_no_chain_of_finished_tasks(bus: EventBus, heard: Heard) -> None:
    bus.subscribe("x", heard.later)
    for _ in range(200):
        bus.emit_sync("x")
        await asyncio.sleep(0)
    await bus.join()
    await asyncio.sleep(0)
    gc.collect()
    ours = [task for task in gc.get_objects() if isinstance(task, asyncio.Task) and "event bus" in task.get_name()]
    assert len(ours) <= 1
    assert len(heard.events) == 200


async def test_close_cancels_what_is_left_without_a_warning(bus: EventBus, heard: Heard) -> None:
    cancelled = []

    async def endless(_: Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    bus.subscribe("x", endless, priority=EventPriority.HIGH.value)
    bus.subscribe("x", heard.later)
    for _ in range(3):
        bus.emit_sync("x")
    await asyncio.sleep(0)
    await bus.close()
    gc.collect()  # a coroutine that was never awaited would warn here, and warnings are errors
    assert (cancelled, heard.events, bus.handler_failures) == ([1], [], 0)
    bus.remove_all_listeners()
    bus.subscribe("x", heard.later)
    bus.emit_sync("x")
    await bus.join()
    assert heard.types == ["x"]


def test_a_loop_that_ends_early_leaves_no_warning_and_a_usable_bus(bus: EventBus, heard: Heard) -> None:
    bus.subscribe("x", heard.later)

    async def main() -> None:
        bus.emit_sync("x")
        bus.emit_sync("x")

    asyncio.run(main())
    gc.collect()
    bus.emit_sync("x")
    assert heard.types == ["x"]
    asyncio.run(main())
    gc.collect()
    assert bus.get_stats()["total_events"] == 5


def test_an_interruption_passes_and_leaves_no_warning(bus: EventBus, heard: Heard) -> None:
    async def interrupted(_: Event) -> None:
        raise KeyboardInterrupt

    bus.subscribe("x", interrupted)
    bus.subscribe("x", heard.later)
    with pytest.raises(KeyboardInterrupt):
        bus.emit_sync("x")
    gc.collect()
    assert (heard.events, bus.handler_failures) == ([], 0)


def test_it_works_on_uvloop_too(bus: EventBus, heard: Heard) -> None:
    bus.subscribe("x", heard.later)

    async def main() -> None:
        bus.emit_sync("x")
        await bus.emit("x")
        await bus.join()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert heard.types == ["x", "x"]


async def test_a_thread_may_emit_while_a_loop_runs_elsewhere(bus: EventBus, heard: Heard) -> None:
    threads: list[int] = []
    bus.subscribe("x", heard.later)
    bus.subscribe("x", lambda _: threads.append(threading.get_ident()))
    bus.emit_sync("x")
    await asyncio.to_thread(bus.emit_sync, "x")
    await bus.join()
    assert heard.types == ["x", "x"]
    assert len(set(threads)) == 2


def test_an_awaitable_need_not_be_a_coroutine(bus: EventBus) -> None:
    ran = []

    class Awaitable:
        def __await__(self) -> Iterator[None]:
            ran.append(1)
            return iter(())

    bus.subscribe("x", lambda _: Awaitable())
    bus.subscribe("x", lambda _: Future())  # not awaitable: just a value
    bus.emit_sync("x")
    asyncio.run(bus.emit("x"))
    assert ran == [1, 1]


# --- the hub's way in -------------------------------------------------------------------------------------------


async def test_dispatch_records_and_awaits_as_emit_does(bus: EventBus, heard: Heard) -> None:
    event = Event("x", {"n": 1}, id="one", seq=7, prd_id="P")
    bus.subscribe("x", heard.later)
    await bus.dispatch(event)
    assert heard.events == [event]
    assert bus.get_history() == [event]
    assert bus.get_stats()["by_type"] == {"x": 1}


def test_record_touches_no_handler(bus: EventBus, heard: Heard) -> None:
    bus.on_any(heard)
    stored = [Event("a"), Event("b"), Event("a")]
    bus.record(stored)
    bus.record([])
    assert heard.events == []
    assert bus.get_history() == stored[::-1]
    assert bus.get_stats() == {"total_events": 3, "by_type": {"a": 2, "b": 1}, "handlers": 1, "history_size": 3}


# --- history and statistics -------------------------------------------------------------------------------------


@given(
    types=st.lists(st.sampled_from(["a.x", "a.y", "b.x"]), max_size=30),
    pattern=st.sampled_from([None, "*", "a.*", "*.x", "b.x", "c"]),
    limit=st.sampled_from([None, 0, 1, 5, 100, -1]),
    size=st.integers(1, 20),
)
def test_history_is_the_last_events_newest_first(
    types: list[str], pattern: str | None, limit: int | None, size: int
) -> None:
    bus = EventBus(history_size=size)
    emitted = [bus.emit_sync(type_) for type_ in types]
    wanted = [e for e in emitted[-size:] if pattern is None or fnmatch.fnmatchcase(e.type, pattern)][::-1]
    assert bus.get_history(pattern, limit) == wanted[: None if limit is None else max(limit, 0)]
    assert bus.get_stats() == {
        "total_events": len(types),
        "by_type": dict(Counter(types)),
        "handlers": 0,
        "history_size": min(size, len(types)),
    }


def test_a_thousand_events_are_kept_and_a_hundred_shown(bus: EventBus) -> None:
    for _ in range(1100):
        bus.emit_sync("x")
    assert len(bus.get_history()) == 100
    assert len(bus.get_history(limit=5000)) == 1000
    assert bus.get_stats()["total_events"] == 1100


def test_clearing_the_history_leaves_the_counts_and_the_other_way_round(bus: EventBus) -> None:
    bus.emit_sync("x")
    bus.clear_history()
    assert bus.get_history() == []
    assert bus.get_stats() == {"total_events": 1, "by_type": {"x": 1}, "handlers": 0, "history_size": 0}
    bus.emit_sync("x")
    bus.reset_stats()
    assert bus.get_stats() == {"total_events": 0, "by_type": {}, "handlers": 0, "history_size": 1}


@pytest.mark.parametrize("batch", [1, 7, 5000])
def test_endless_types_take_bounded_memory_and_every_event_is_counted(bus: EventBus, batch: int) -> None:
    bus.subscribe("never", fails)
    made = [Event(f"type.{n}") for n in range(5000)] + [Event("type.1")] * 3
    for start in range(0, len(made), batch):
        bus.record(made[start : start + batch])
    by_type = bus.get_stats()["by_type"]
    assert len(by_type) == MAX_TYPES + 1
    assert sum(by_type.values()) == len(made)
    assert (by_type["type.0"], by_type["type.1"], by_type[OTHER_TYPES]) == (1, 4, 5000 - MAX_TYPES)
    for event in made:
        count = bus.listener_count(event.type)
        assert count == 0
    assert len(bus._handlers._routes) <= MAX_ROUTES


def test_recording_costs_less_than_a_microsecond_an_event(bus: EventBus) -> None:
    batch = [Event("story.started" if n % 3 else "test.run") for n in range(256)]

    def cost() -> float:
        before = time.thread_time()
        for _ in range(20):
            bus.record(batch)
        return (time.thread_time() - before) / (20 * len(batch))

    assert min(cost() for _ in range(5)) < 1e-6


# --- the module -------------------------------------------------------------------------------------------------


@pytest.fixture
def default_bus() -> Iterator[EventBus]:
    bus = get_event_bus()
    yield bus
    bus.remove_all_listeners()
    bus.clear_history()
    bus.reset_stats()


async def test_the_module_s_functions_use_one_bus(default_bus: EventBus, heard: Heard) -> None:
    assert get_event_bus() is default_bus
    hid = event_bus.subscribe("x", heard, priority=EventPriority.BACKGROUND.value, filter_func=None, name="n")
    event = await event_bus.emit("x", {"n": 1}, prd_id="P", run_id="R")
    assert heard.events == [event] == default_bus.get_history()
    assert (event.prd_id, event.run_id) == ("P", "R")
    assert event_bus.unsubscribe(hid)
    assert default_bus.listener_count() == 0


def test_threads_that_ask_first_get_the_same_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    event_bus._default_bus.cache_clear()
    monkeypatch.setattr(event_bus, "EventBus", lambda: time.sleep(0.01) or EventBus())
    found: list[EventBus] = []
    threads = [threading.Thread(target=lambda: found.append(get_event_bus())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(bus) for bus in found}) == 1


def test_the_examples_run() -> None:
    results = doctest.testmod(event_bus)
    assert results.attempted > 0
    assert results.failed == 0


def test_the_examples_of_the_documentation_run() -> None:
    results = doctest.testfile(str(ROOT / "docs" / "event-bus.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
