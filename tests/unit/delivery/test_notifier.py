"""The reader: what of the read model becomes a message, on the real log and a clock of its own."""

from contextlib import asynccontextmanager, closing

import pytest

from claude_loop.clock import ManualClock
from claude_loop.delivery import look as looking
from claude_loop.delivery import notifier as notifying
from claude_loop.delivery.dispatch import Outcome
from claude_loop.delivery.notifier import Notifier
from claude_loop.delivery.outbox import Outbox
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.ids import Cursor, new_event_id
from claude_loop.paths import Home
from claude_loop.progress.projection import ProgressProjection
from claude_loop.settings import load_settings
from claude_loop.supervision import TaskOwner
from tests.support import eventually
from tests.unit.delivery.rig import FakeDispatch


class Rig:
    """A hub on a real log, and a notifier that may be stopped and started."""

    def __init__(self, home, clock):
        self.home, self.clock = Home(home), clock
        self.hub = Hub(SqliteEventLog(self.home.database, ProgressProjection(), clock), EventBus(clock=clock))
        self.dispatch = FakeDispatch()

    @asynccontextmanager
    async def notifying(self, **channel):
        settings = load_settings(notify=[{"name": "phone", "command": ["true"], "grace": 0} | channel])
        notifier = Notifier(self.hub, self.home, settings, self.clock, lambda: "", self.dispatch)
        tasks = TaskOwner("test")
        notifier.start(tasks)
        await eventually(lambda: notifier._policy)
        try:
            yield notifier
        finally:
            await tasks.close()
            await notifier.close()

    async def emit(self, type_, prd_id="SHOP-7", project="shop", story_id=None, **data):
        at = self.clock.now_us() // 1000
        event = Event(type_, data, new_event_id(self.clock), project, prd_id, at=at, story_id=story_id)
        (outcome,) = await self.hub.publish([event])
        assert outcome.error is None, outcome.error

    async def wait_for(self, *texts):
        await eventually(lambda: len(self.dispatch.messages) >= len(texts))
        said = self.dispatch.texts
        assert len(said) == len(texts), said
        for text, expected in zip(said, texts, strict=True):
            assert text.startswith(expected), said

    async def wait_for_alerts(self, *types):
        async def enough():
            return len(await self.alerts()) >= len(types)

        await eventually(enough)
        assert await self.alerts() == list(types)

    async def has_looked(self):
        """Whether what the log holds now has been looked at: a message takes its words from the last look."""
        last = (await self.hub.log.read(0, 1000)).events[-1].seq
        with closing(Outbox(self.home.outbox)) as outbox:
            return Cursor.parse(outbox.cursor()).seq >= last

    async def alerts(self):
        page = await self.hub.log.read(0, 1000)
        return [event.type for event in page.events if event.type.startswith("alert.")]


@pytest.fixture
async def rig(home, monkeypatch):
    monkeypatch.setattr(notifying, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(looking, "AFTER_END_MS", 0)
    monkeypatch.setattr(notifying, "LONGEST_SLEEP", 0.05)  # the clock of the test stands still
    home.mkdir(parents=True)
    one = Rig(home, ManualClock())
    await one.hub.start()
    yield one
    await one.hub.stop()


async def test_kinds_and_their_words(rig):
    async with rig.notifying(resolved=False, time_limit=1):
        await rig.emit("prd.started", total_stories=2)
        await rig.emit("agent.waiting", **{"for": "rate_limit", "reason": "usage limit"})
        await rig.wait_for("SHOP-7 waits for the rate limit: usage limit")
        await rig.emit("agent.resumed")
        await rig.emit("prd.completed", success=False)
        await rig.wait_for("SHOP-7 waits", "SHOP-7 failed: it was reported as failed · 0 of 2 stories done, 0 verified")
        await rig.emit("prd.started", "SHOP-8")
        await rig.emit("prd.completed", "SHOP-8", success=True)
        await eventually(lambda: len(rig.dispatch.messages) == 3)
        assert rig.dispatch.texts[2].startswith("SHOP-8 is done, claimed: ")
        await rig.wait_for_alerts("alert.sent", "alert.sent", "alert.sent")


async def test_the_words_of_an_end_count_what_is_found_out_a_moment_after_it(rig, monkeypatch):
    monkeypatch.setattr(looking, "AFTER_END_MS", 600)
    async with rig.notifying() as notifier:
        await rig.emit("prd.started", total_stories=1)
        await rig.emit("story.started", story_id="US-001")
        await rig.emit("run.completed", success=True)
        await eventually(lambda: _one_waits(notifier))
        await rig.emit("story.completed", story_id="US-001", success=True)
        await eventually(rig.has_looked)
        rig.clock.advance(1)
        await rig.emit("note.made", "SHOP-8")
        await rig.wait_for("SHOP-7 is done, claimed: US-001: no test run, no commit · 1 of 1 stories done")


async def test_silence_is_told_when_its_time_has_come_and_so_is_its_end(rig):
    async with rig.notifying():
        await rig.emit("prd.started")
        rig.clock.advance(299)
        await rig.emit("note.made", "SHOP-8")
        rig.clock.advance(2)
        await rig.wait_for("SHOP-7 is silent for 5 min, last: prd.started")
        await rig.emit("log.message", message="here")
        await rig.wait_for("SHOP-7 is silent", "Resolved: SHOP-7 is no longer silent")


async def test_a_restart_repeats_nothing_and_misses_nothing(rig):
    await rig.emit("prd.started")
    async with rig.notifying():
        await rig.emit("agent.waiting", **{"for": "human", "reason": "one"})
        await rig.wait_for("SHOP-7 waits for you: one")
        await eventually(rig.alerts)
    # It does not run: this one ends, another run begins and ends.
    await rig.emit("agent.resumed")
    await rig.emit("prd.started", "SHOP-8")
    await rig.emit("prd.completed", "SHOP-8", success=False)
    async with rig.notifying():
        await eventually(lambda: len(rig.dispatch.messages) == 3)
        assert sorted(text.split(" (")[0] for text in rig.dispatch.texts) == [
            "Resolved: SHOP-7 no longer waits: one",
            "SHOP-7 waits for you: one",
            "SHOP-8 failed: it was reported as failed · 0 of 0 stories done, 0 verified",
        ]
        await rig.emit("prd.started", "SHOP-9")
    async with rig.notifying():
        await rig.emit("agent.waiting", "SHOP-9", **{"for": "human", "reason": "last"})
        await eventually(lambda: len(rig.dispatch.messages) == 4)
    assert rig.dispatch.texts[3] == "SHOP-9 waits for you: last"


async def test_states_of_before_the_first_start_are_not_sent_unless_they_are_recent(rig):
    await rig.emit("prd.started", "SHOP-1")
    await rig.emit("agent.waiting", "SHOP-1", **{"for": "human", "reason": "old"})
    rig.clock.advance(3600)
    await rig.emit("prd.started", "SHOP-2")
    await rig.emit("agent.waiting", "SHOP-2", **{"for": "human", "reason": "recent"})
    rig.clock.advance(60)
    async with rig.notifying():
        await rig.wait_for("SHOP-2 waits for you: recent (1 min)")
        await rig.emit("agent.resumed", "SHOP-1")
        await rig.emit("agent.resumed", "SHOP-2")
        await rig.wait_for("SHOP-2 waits", "Resolved: SHOP-2")


async def test_projects_and_kinds_are_chosen(rig):
    async with rig.notifying(projects=["sh?p*"], kinds=["failed"]):
        for project in ("blog", "shop", "shops"):
            await rig.emit("prd.started", project=project)
            await rig.emit("agent.waiting", project=project, **{"for": "human", "reason": "x"})
            await rig.emit("prd.completed", project=project, success=False)
        await eventually(lambda: len(rig.dispatch.messages) == 2)
    assert {message["project"] for message in rig.dispatch.messages} == {"shop", "shops"}


async def test_a_run_that_was_put_away_or_forgotten_says_no_more(rig):
    rig.dispatch.outcomes = [Outcome(sent=False, reason="down")]
    async with rig.notifying() as notifier:
        await rig.emit("prd.started")
        await rig.emit("agent.waiting", **{"for": "human", "reason": "hunter2"})
        await eventually(lambda: rig.dispatch.messages)
        await rig.emit("prd.forgotten")
        await eventually(lambda: _none_waiting(notifier))
    assert b"hunter2" not in b"".join(path.read_bytes() for path in rig.home.root.glob("notify.db"))


async def _one_waits(notifier):
    return (await notifier.report())["channels"][0]["waiting"] == 1


async def _none_waiting(notifier):
    return (await notifier.report())["channels"][0]["waiting"] == 0
