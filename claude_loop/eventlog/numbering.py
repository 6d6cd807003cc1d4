"""What every backend does with a batch before storing it: find repetitions, number the rest, fold them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from claude_loop.errors import IdConflict
from claude_loop.eventlog.base import Appended, Entities, Projection
from claude_loop.events import Event

log = structlog.get_logger(__name__)


class EntityCache:
    """The read model's documents as one writer sees them: a bounded cache over ``load``, with what is dirty apart.

    Dirty documents reach the cache only after the commit, so that a failed one leaves nothing behind.
    """

    def __init__(self, load: Callable[[str], dict[str, Any] | None], capacity: int = 4096) -> None:
        self._load = load
        self._capacity = capacity
        self._clean: dict[str, dict[str, Any] | None] = {}
        self.dirty: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        document = self.dirty.get(key)
        if document is not None:
            return document
        if key not in self._clean:
            if len(self._clean) >= self._capacity:
                self._clean.pop(next(iter(self._clean)))
            self._clean[key] = self._load(key)
        return self._clean[key]

    def put(self, key: str, document: dict[str, Any]) -> None:
        self.dirty[key] = document

    def committed(self) -> None:
        self._clean.update(self.dirty)
        self.dirty = {}
        while len(self._clean) > self._capacity:
            self._clean.pop(next(iter(self._clean)))

    def discard(self) -> None:
        """Forget everything: after a failure the stored documents are the only truth."""
        self._clean.clear()
        self.dirty = {}


class Numbering:
    """Gives each new event of one batch its ``seq``, and each repetition the first one's.

    ``stored`` looks up events by id in the log. The batch's own events are known without it.
    """

    def __init__(
        self,
        head: int,
        received_at: int,
        stored: Callable[[Iterable[str]], dict[str, Event]],
        projection: Projection,
        entities: Entities,
    ) -> None:
        self._head = head
        self._received_at = received_at
        self._stored = stored
        self._projection = projection
        self._entities = entities
        self._in_batch: dict[str, Event] = {}
        self._given_runs: list[str | None] = []
        self.new: list[Event] = []

    def look_up(self, events: Iterable[Event]) -> dict[str, Event]:
        """The events among ``events`` that the log already has, by id."""
        return self._stored([event.id for event in events])

    def number(self, events: Sequence[Event], known: dict[str, Event]) -> list[Appended]:
        return [self._one(event, known) for event in events]

    def _one(self, event: Event, known: dict[str, Event]) -> Appended:
        first = known.get(event.id) or self._in_batch.get(event.id)
        if first is not None:
            return self._repetition(first, event)
        self._given_runs.append(event.run_id)
        self._head += 1
        event.seq = self._head
        event.received_at = self._received_at
        try:
            self._projection.apply(event, self._entities)
        except Exception:  # a defect of ours must not cost the user's event: it is stored, and the defect reported
            log.exception("an event could not be folded into the read model", seq=event.seq, type=event.type)
        event.json  # noqa: B018 - made here, in the writer, once for all readers
        self._in_batch[event.id] = event
        self.new.append(event)
        return Appended(event.seq)

    @staticmethod
    def _repetition(first: Event, event: Event) -> Appended:
        if first is event or first.same_content(event):
            return Appended(first.seq, duplicate=True)
        conflict = IdConflict(f"The id {event.id!r} already names another event (seq {first.seq}).", field="id")
        return Appended(0, error=conflict)

    def undo(self) -> None:
        """Make the events unstored again, after a failed commit."""
        for event, run_id in zip(self.new, self._given_runs, strict=True):
            event.unstore(run_id)
