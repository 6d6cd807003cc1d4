"""The live state: a watcher's documents and patches are, at every moment, what somebody who only came now would get."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.clock import ManualClock
from claude_loop.eventlog.base import EventLog, nobody
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.progress.keys import prd_key, run_key, story_key
from claude_loop.progress.patches import apply_patches
from claude_loop.progress.projection import ProgressProjection
from claude_loop.progress.state_feed import StateFeed
from claude_loop.progress.views import Moment, list_cards
from claude_loop.progress.watch import Watch, WatchedPrd
from tests.support import PATIENCE

STALLED_MS = 300_000
PRD = prd_key(None, "PRD-1")


@pytest.fixture
def feed(log: EventLog, clock: ManualClock) -> StateFeed:
    return StateFeed(log, clock, STALLED_MS, longest_sleep=0.01)


class Publisher:
    def __init__(self, log: EventLog, clock: ManualClock) -> None:
        self._log = log
        self._clock = clock
        self._made = 0

    async def __call__(self, type_: str, prd: str = "PRD-1", **fields: Any) -> int:
        self._made += 1
        data = fields.pop("data", {})
        event = Event(type_, data, id=f"e{self._made}", prd_id=prd, at=self._clock.now_us() // 1000, **fields)
        (outcome,) = await self._log.append([event])
        return outcome.seq


@pytest.fixture
def publish(log: EventLog, clock: ManualClock) -> Publisher:
    return Publisher(log, clock)


class Page:
    """What a page does: it holds the documents and applies what comes."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.documents = {key: dict(document) for key, document in watch.documents.items()}

    def take(self) -> list[dict[str, Any]]:
        new = self.watch.take()
        apply_patches(self.documents, new.patches)
        return new.patches


async def opened(feed: StateFeed, prd: WatchedPrd | None = None) -> Page:
    return Page(await feed.watch(prd))


async def test_a_watcher_begins_with_every_prd_and_its_latest_run(feed: StateFeed, publish: Publisher):
    await publish("prd.started")
    await publish("prd.started", data={"total_stories": 2})
    await publish("story.started", prd="PRD-2", story_id="US-1", project="shop")
    page = await opened(feed)
    assert set(page.documents) == {
        PRD,
        run_key(None, "PRD-1", "e2"),
        prd_key("shop", "PRD-2"),
        run_key("shop", "PRD-2", "e3"),
    }
    assert page.watch.seq == 3
    assert page.take() == []


async def test_a_change_is_a_patch_of_the_fields_that_changed(feed: StateFeed, publish: Publisher):
    await publish("prd.started")
    page = await opened(feed)
    seq = await publish("iteration.started", data={"iteration": 7})
    patches = page.take()
    assert ([run_key(None, "PRD-1", "e1"), "iteration"], 7) in [(patch["path"], patch["value"]) for patch in patches]
    assert {patch["seq"] for patch in patches} == {seq}
    assert all(len(patch["path"]) == 2 for patch in patches), "nothing is sent whole that is known"
    assert page.take() == [], "nothing comes twice"


async def test_a_new_prd_comes_whole_and_a_new_run_takes_the_place_of_the_last(feed: StateFeed, publish: Publisher):
    page = await opened(feed)
    assert page.documents == {}
    await publish("prd.started")
    assert [patch["path"] for patch in page.take()] == [[PRD], [run_key(None, "PRD-1", "e1")]]
    await publish("prd.completed", data={"success": True})
    await publish("prd.started")
    patches = {tuple(patch["path"]): patch["value"] for patch in page.take()}
    assert patches[run_key(None, "PRD-1", "e1"),] is None
    assert patches[run_key(None, "PRD-1", "e3"),]["number"] == 2
    assert patches[PRD, "run_id"] == "e3"
    await publish("log.message", run_id="e1")
    assert page.take() == [], "an earlier run is not looked at"


async def test_of_a_chosen_prd_all_runs_and_the_stories_of_the_latest(feed: StateFeed, publish: Publisher):
    await publish("prd.started")
    await publish("story.started", story_id="US-1")
    await publish("prd.started", prd="PRD-2")
    await publish("story.started", prd="PRD-2", story_id="US-9")
    page = await opened(feed, WatchedPrd(None, "PRD-1"))
    first = story_key(None, "PRD-1", "e1", "US-1")
    assert first in page.documents
    assert story_key(None, "PRD-2", "e3", "US-9") not in page.documents
    await publish("prd.completed", data={"success": True})
    await publish("prd.started")
    await publish("story.started", story_id="US-1")
    page.take()
    assert first not in page.documents
    assert {run_key(None, "PRD-1", run) for run in ("e1", "e6")} <= set(page.documents)
    assert page.documents[story_key(None, "PRD-1", "e6", "US-1")]["state"] == "running"


async def test_a_named_run_is_kept_when_another_becomes_the_latest(feed: StateFeed, publish: Publisher):
    await publish("prd.started")
    await publish("story.started", story_id="US-1")
    page = await opened(feed, WatchedPrd(None, "PRD-1", "e1"))
    await publish("prd.started")
    await publish("story.started", story_id="US-2")
    page.take()
    assert story_key(None, "PRD-1", "e1", "US-1") in page.documents
    assert story_key(None, "PRD-1", "e3", "US-2") not in page.documents


async def test_passing_time_wakes_a_watcher_and_is_a_patch(feed: StateFeed, publish: Publisher, clock: ManualClock):
    await publish("prd.started")
    page = await opened(feed)
    waiting = asyncio.ensure_future(page.watch.wait())
    await asyncio.sleep(0.03)
    assert not waiting.done()
    clock.advance(STALLED_MS / 1000)
    await asyncio.wait_for(waiting, PATIENCE)
    (patch,) = page.take()
    assert (patch["path"], patch["value"]) == ([run_key(None, "PRD-1", "e1"), "state"], "stalled")
    assert patch["at"] == clock.now_us() // 1000
    await publish("log.message")
    assert any(patch["path"][1:] == ["state"] and patch["value"] == "running" for patch in page.take())


async def test_what_a_slow_watcher_missed_is_merged(feed: StateFeed, publish: Publisher):
    slow, quick = await opened(feed), await opened(feed)
    for n in range(50):
        await publish("iteration.started", data={"iteration": n})
        quick.take()
    assert len(feed._changes) == 2, "one change a document, however many there were"
    patches = slow.take()
    assert len(patches) == 2, "documents it never had come once and whole"
    assert slow.documents == quick.documents
    assert not feed._changes, "what everybody has seen is let go"


async def test_nothing_is_kept_while_nobody_watches(feed: StateFeed, publish: Publisher):
    page = await opened(feed)
    feed.forget(page.watch)
    feed.forget(page.watch)
    await publish("prd.started")
    assert len(feed) == 0
    assert not feed._changes


async def test_what_is_committed_while_the_documents_are_read_is_not_missed(
    feed: StateFeed, publish: Publisher, log: EventLog, monkeypatch: pytest.MonkeyPatch
):
    await publish("prd.started")
    read = log.snapshot

    async def interrupted(choose: Any) -> Any:
        await publish("iteration.started", data={"iteration": 1})
        answer = await read(choose)
        await publish("iteration.started", data={"iteration": 2})
        return answer

    monkeypatch.setattr(log, "snapshot", interrupted)
    page = await opened(feed)
    run = run_key(None, "PRD-1", "e1")
    assert page.documents[run]["iteration"] == 1
    page.take()
    assert page.documents[run]["iteration"] == 2


async def test_a_watcher_whose_documents_cannot_be_read_leaves_nothing_behind(
    feed: StateFeed, log: EventLog, monkeypatch: pytest.MonkeyPatch
):
    async def broken(choose: Any) -> Any:
        raise OSError("unreadable")

    monkeypatch.setattr(log, "snapshot", broken)
    with pytest.raises(OSError, match="unreadable"):
        await feed.watch()
    assert len(feed) == 0


steps = st.lists(
    st.one_of(
        st.sampled_from(["take", "wait 100", "wait 400"]),
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    ["prd.started", "prd.completed", "story.started", "story.completed", "test.run", "agent.waiting"]
                ),
                "prd_id": st.sampled_from(["PRD-1", "PRD-2"]),
                "project": st.sampled_from([None, "a/b", "*"]),
                "story_id": st.sampled_from([None, "US-1", "US-2"]),
                "run_id": st.sampled_from([None, None, None, "r1", "r2"]),
                "data": st.sampled_from([{}, {"success": True}, {"for": "human", "reason": "x", "until": 1769428900}]),
            }
        ),
    ),
    max_size=40,
)
watched = st.sampled_from(
    [
        None,
        WatchedPrd(None, "PRD-1"),
        WatchedPrd("a/b", "PRD-1", "r1"),
        WatchedPrd("*", "PRD-2"),
        WatchedPrd(None, "no"),
    ]
)


@given(steps, steps, watched)
def test_documents_and_patches_are_what_a_newcomer_gets(before: list[Any], after: list[Any], prd: WatchedPrd | None):
    async def run() -> None:
        clock = ManualClock()
        log = MemoryEventLog(ProgressProjection(), clock)
        await log.open(nobody)
        feed, number = StateFeed(log, clock, STALLED_MS), 0

        async def play(some: list[Any], page: Page | None) -> None:
            nonlocal number
            for step in some:
                if step == "take":
                    if page is not None:
                        page.take()
                elif isinstance(step, str):
                    clock.advance(float(step.split()[1]))
                else:
                    number += 1
                    given_ = {**step}
                    await log.append([Event(given_.pop("type"), id=f"e{number}", at=clock.now_us() // 1000, **given_)])

        await play(before, None)
        page = await opened(feed, prd)
        await play(after, page)
        page.take()
        newcomer = await opened(feed, prd)
        assert page.documents == newcomer.documents
        cards = await list_cards(log, Moment(clock.now_us() // 1000, STALLED_MS))
        for card in cards:
            shown = page.documents[run_key(card["project"], card["prd_id"], card["run_id"])]
            assert shown == {key: card[key] for key in shown}
        assert len(cards) == sum(key.startswith("prd/") for key in page.documents)

    asyncio.run(run())
