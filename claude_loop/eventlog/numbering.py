"""What every backend does with a batch before storing it: find repetitions, number the rest, fold them in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from claude_loop.errors import IdConflict
from claude_loop.eventlog.base import Appended, Entities, LogState, Projection
from claude_loop.eventlog.facts import FACTS, Facts
from claude_loop.events import Event, write_json

log = structlog.get_logger(__name__)

# A document that could not be loaded says nothing about the event: the whole commit fails, and is tried again.
_STORAGE_FAILURES = (sqlite3.Error, OSError)


class EntityCache:
    """The read model's documents as one writer sees them: a bounded cache over ``load``, with what is dirty apart.

    Those of a commit are dirty until all of it is folded. If it is not stored after all, ``discard`` must be called.
    """

    def __init__(
        self,
        load: Callable[[str], dict[str, Any] | None],
        capacity: int = 4096,
        *,
        keys_under: Callable[[str], Iterable[str]] = lambda _prefix: (),
    ) -> None:
        self._load = load
        self._keys_under = keys_under
        self._capacity = capacity
        self._clean: dict[str, dict[str, Any] | None] = {}
        self.dirty: dict[str, dict[str, Any] | None] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        if key in self.dirty:
            return self.dirty[key]
        if key not in self._clean:
            if len(self._clean) >= self._capacity:
                self._clean.pop(next(iter(self._clean)))
            self._clean[key] = self._load(key)
        return self._clean[key]

    def put(self, key: str, document: dict[str, Any]) -> None:
        self.dirty[key] = document

    def remove(self, key: str) -> None:
        self.dirty[key] = None

    def under(self, prefix: str) -> list[str]:
        keys = {*self._keys_under(prefix), *(key for key in self.dirty if key.startswith(prefix))}
        return sorted(key for key in keys if self.dirty.get(key, self) is not None)

    def folded(self) -> None:
        self._clean.update(self.dirty)
        self.dirty = {}
        while len(self._clean) > self._capacity:
            self._clean.pop(next(iter(self._clean)))

    def discard(self) -> None:
        """Forget everything: after a failure the stored documents are the only truth."""
        self._clean.clear()
        self.dirty = {}


def fold_in(projection: Projection, events: Sequence[Event], entities: Entities) -> None:
    """Fold events into the read model. One that breaks the projection leaves no trace there, the others do."""
    given = [(event.run_id, event.story_id) for event in events]
    try:
        projection.apply(events, entities)
    except _STORAGE_FAILURES:
        raise
    except Exception:  # noqa: BLE001 - whose fault it is shows when they come one by one
        for event, (run_id, story_id) in zip(events, given, strict=True):
            event.run_id, event.story_id = run_id, story_id
        for event in events:
            _fold_in_one(projection, event, entities)


def _fold_in_one(projection: Projection, event: Event, entities: Entities) -> None:
    run_id, story_id = event.run_id, event.story_id
    try:
        projection.apply((event,), entities)
    except _STORAGE_FAILURES:
        raise
    except Exception:  # a defect of ours must not cost the user's event: it is stored, and the defect reported
        event.run_id, event.story_id = run_id, story_id
        log.exception("an event could not be folded into the read model", seq=event.seq, type=event.type)


class Numbering:
    """Gives each new event of one commit its ``seq``, and each repetition the first one's.

    ``stored`` looks up events by id in the log. The commit's own events are known without it. ``facts`` knows what
    several report; it outlives the commit.
    """

    def __init__(
        self,
        state: LogState,
        received_at: int,
        stored: Callable[[Sequence[str]], dict[str, Event]],
        facts: Facts,
        projection: Projection,
        entities: Entities,
    ) -> None:
        self._first = state.first
        self._head = state.head
        self._received_at = received_at
        self._stored = stored
        self._facts = facts
        self._projection = projection
        self._entities = entities
        self._given: list[tuple[str | None, str | None]] = []
        self._repeated: list[tuple[list[Appended], int, Event, Event]] = []
        self.new: list[Event] = []

    def number(self, batches: Sequence[Sequence[Event]]) -> list[list[Appended]]:
        """The outcomes of each batch. New events are complete afterwards, and the read model knows them."""
        known = self._stored([event.id for events in batches for event in events])
        outcomes = [self._numbered(events, known) for events in batches]
        fold_in(self._projection, self.new, self._entities)
        self._facts.settle()
        # Made here, in the writer, once for all readers.
        write_json(self.new)
        # A repetition is held against the first event as it is stored, with its run and story.
        for outcome, index, first, again in self._repeated:
            outcome[index] = _repetition(first, again)
        return outcomes

    def _numbered(self, events: Sequence[Event], known: dict[str, Event]) -> list[Appended]:
        """``known`` gains the new ones. Repetitions are left to be judged later."""
        seq, received_at = self._head, self._received_at
        new, given, facts = self.new, self._given, self._facts
        outcome: list[Appended] = []
        for event in events:
            id_ = event.id
            if id_ in known:
                self._repeated.append((outcome, len(outcome), known[id_], event))
                outcome.append(_UNDECIDED)
                continue
            if event.type in FACTS and (first := facts.first_seq(event, self._first, seq + 1)):
                outcome.append(Appended(first, duplicate=True))
                continue
            known[id_] = event
            seq += 1
            event.seq = seq
            event.received_at = received_at
            new.append(event)
            given.append((event.run_id, event.story_id))
            outcome.append(Appended(seq))
        self._head = seq
        return outcome

    def undo(self) -> None:
        """Make the events unstored again, after a failed commit."""
        self._facts.discard()
        for event, (run_id, story_id) in zip(self.new, self._given, strict=True):
            event.unstore(run_id, story_id)


_UNDECIDED = Appended(0)


def _repetition(first: Event, event: Event) -> Appended:
    if first is event or first.same_content(event):
        return Appended(first.seq, duplicate=True)
    conflict = IdConflict(f"The id {event.id!r} already names another event (seq {first.seq}).", field="id")
    return Appended(0, error=conflict)
