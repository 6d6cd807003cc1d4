"""Log, hub and resuming readers as one state machine, checked against a plain list."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from claude_loop.clock import ManualClock
from claude_loop.errors import IdConflict
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.ring import Ring
from claude_loop.subscription import Batch, Start
from tests.support import PATIENCE

FILTERS = [Filter(), Filter(types=("a.*",)), Filter(prd_ids=("P1",)), Filter(prd_ids=("P1",), or_without_prd=True)]


class LogMachine(RuleBasedStateMachine):
    """Publishes, repeats, conflicts, prunes, restarts; readers stop anywhere and resume from their cursor."""

    backend = "memory"

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.folder = Path(tempfile.mkdtemp(prefix="claude-loop-test-"))
        self.model: list[Event] = []  # what the log must hold, index = seq - 1
        self.first = 1
        self.next_id = 0
        self.readers: list[dict] = []
        self.heard: list[int] = []

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE))

    @initialize()
    def open(self):
        if self.backend == "memory":
            self.log = MemoryEventLog(clock=self.clock)
        else:
            self.log = SqliteEventLog(self.folder / "events.db", clock=self.clock)
        self.start()

    def start(self):
        bus = EventBus()
        bus.on_any(lambda event: self.heard.append(event.seq))
        # A ring of a few events: readers fall behind it all the time, and must not notice.
        self.hub = Hub(self.log, bus, ring=Ring(max_events=4, max_bytes=2000))
        self.run(self.hub.start())

    def teardown(self):
        if hasattr(self, "hub"):
            self.run(self.hub.stop())
        self.loop.close()
        shutil.rmtree(self.folder)

    @rule(
        types=st.lists(st.sampled_from(["a.x", "a.y", "b.z"]), min_size=1, max_size=12),
        prd=st.sampled_from(["P1", "P2", None]),
    )
    def publish(self, types, prd):
        events = [self.fresh(type_, prd) for type_ in types]
        outcome = self.run(self.hub.publish(events))
        assert [o.seq for o in outcome] == list(range(len(self.model) + 1, len(self.model) + 1 + len(types)))
        self.model += events

    def fresh(self, type_, prd):
        self.next_id += 1
        return Event(type_, {"n": self.next_id}, id=f"id{self.next_id}", prd_id=prd, source="test")

    @precondition(lambda self: len(self.model) >= self.first)
    @rule(data=st.data())
    def repeat(self, data):
        seq = data.draw(st.integers(self.first, len(self.model)))
        stored = self.model[seq - 1]
        again = Event(stored.type, dict(stored.data), id=stored.id, prd_id=stored.prd_id, source="other")
        assert self.run(self.hub.publish([again])) == [(seq, True, None)]
        conflict = Event(stored.type, {"n": -1}, id=stored.id, prd_id=stored.prd_id, source="test")
        (outcome,) = self.run(self.hub.publish([conflict]))
        assert isinstance(outcome.error, IdConflict)

    @rule(keep=st.integers(0, 30))
    def prune(self, keep):
        gone = self.run(self.log.prune(0, keep, 10))
        assert gone == min(10, max(0, len(self.model) - self.first + 1 - keep))
        self.first += gone

    @precondition(lambda self: self.backend == "sqlite")
    @rule(clean=st.booleans())
    def restart(self, clean):
        if not clean:
            self.log._writer._close = self.log._writer._disconnect
        self.run(self.hub.stop())
        self.log = SqliteEventLog(self.folder / "events.db", clock=self.clock)
        self.start()

    @rule(filter_=st.sampled_from(FILTERS), start=st.sampled_from(["now", "start", {"last": 3}]))
    def subscribe(self, filter_, start):
        opened = self.run(self.hub.subscribe(filter_, Start.parse(start)))
        assert opened.status == "fresh"
        position = opened.subscription.cursor
        if start == "now":
            assert position.seq == len(self.model)
        elif start == "start":
            assert position.seq == self.first - 1
        else:
            ahead = [e for e in self.model[max(position.seq, self.first - 1) :] if filter_.matches(e)]
            assert len(ahead) <= 3
        self.readers.append({"filter": filter_, "cursor": str(position), "next": position.seq + 1})

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), batches=st.integers(1, 4))
    def read(self, data, batches):
        """Resume from the cursor as a client would after any interruption, and read on."""
        reader = data.draw(st.sampled_from(self.readers))
        opened = self.run(self.hub.subscribe(reader["filter"], Start.parse(reader["cursor"])))
        if reader["next"] < self.first:
            assert (opened.status, opened.reason) == ("reset", "trimmed")
            reader["next"] = self.first
        else:
            assert opened.status == "resumed"
        for _ in range(batches):
            if opened.subscription.lag == 0:
                break
            batch = self.run(opened.subscription.next())
            assert isinstance(batch, Batch)
            assert batch.after.seq == reader["next"] - 1
            expected = [e.id for e in self.model[batch.after.seq : batch.upto.seq] if reader["filter"].matches(e)]
            assert [e.id for e in batch.events] == expected
            assert [e.seq for e in batch.events] == sorted({e.seq for e in batch.events})
            assert batch.upto.seq > batch.after.seq
            reader["next"] = batch.upto.seq + 1
        reader["cursor"] = str(opened.subscription.cursor)

    @invariant()
    def the_log_is_the_model(self):
        if not hasattr(self, "hub"):
            return
        assert (self.hub.state.first, self.hub.state.head) == (self.first, len(self.model))
        page = self.run(self.log.read(0, 10_000))
        assert [(e.seq, e.id) for e in page.events] == [
            (seq, e.id) for seq, e in enumerate(self.model[self.first - 1 :], self.first)
        ]
        assert self.heard == sorted(set(self.heard))


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_log_and_resuming_readers_agree_with_the_model(backend):
    class Machine(LogMachine):
        pass

    Machine.backend = backend
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40 if backend == "memory" else 15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
