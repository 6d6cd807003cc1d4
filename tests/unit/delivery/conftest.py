"""A hub on a real log and a notifier beside it, for the tests of what is told."""

from contextlib import asynccontextmanager, closing

import pytest

from claude_loop.clock import ManualClock
from claude_loop.delivery import look as looking
from claude_loop.delivery import notifier as notifying
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

    async def emit(self, type_, prd_id="SHOP-7", project="shop", story_id=None, session_id=None, run_id=None, **data):
        at, ids = self.clock.now_us() // 1000, {"story_id": story_id, "session_id": session_id, "run_id": run_id}
        event = Event(type_, data, new_event_id(self.clock), project, prd_id, at=at, **ids)
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
        events = (await self.hub.log.read(0, 1000)).events
        # What was sent says nothing that would have to be looked at.
        last = max(event.seq for event in events if not event.type.startswith("alert."))
        with closing(Outbox(self.home.outbox)) as outbox:
            cursor = outbox.cursor()
            return cursor is not None and Cursor.parse(cursor).seq >= last

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
