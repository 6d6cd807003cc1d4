"""The reducer as the log's projection: what it makes of events is stored with them, so the two never disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from claude_loop.eventlog.base import Entities, FirstValues
from claude_loop.events import FORGOTTEN, Event
from claude_loop.progress.documents import new_prd, new_run, new_story
from claude_loop.progress.draft import Draft
from claude_loop.progress.keys import AGENTS, PRDS, RUNS, SESSIONS, STORIES, prd_prefixes
from claude_loop.progress.reducer import fold
from claude_loop.progress.session_documents import new_session


def _born() -> FirstValues:
    prd = new_prd(None, "", 0)
    run = new_run(prd, "", "", 0, 0)
    session = new_session(None, None, "", 0, 0, "")
    return {PRDS: prd, RUNS: run, STORIES: new_story(run, "", 0), SESSIONS: session, AGENTS: session}


class ProgressProjection:
    """Implements ``eventlog.base.Projection``."""

    first_values: FirstValues = _born()

    def apply(self, events: Sequence[Event], entities: Entities) -> None:
        """Fill in each event's ``run_id`` and ``story_id`` and store the documents that they change together.

        Each event has its ``seq``, ``id`` and ``received_at``.
        """
        if any(event.type == FORGOTTEN for event in events):
            _apply_with_forgetting(events, entities)
            return
        draft = Draft(entities.get)
        for event in events:
            event.run_id, event.story_id = fold(event, draft)
        _store(draft.documents(), entities)


def _store(documents: dict[str, Any], entities: Entities) -> None:
    for key, document in documents.items():
        if document is None:
            entities.remove(key)
        else:
            entities.put(key, document)


def _apply_with_forgetting(events: Sequence[Event], entities: Entities) -> None:
    layer = _Layer(entities)
    draft = Draft(layer.get)
    for event in events:
        if event.forgets:
            layer.changed.update(draft.documents())
            layer.forget(event)
            draft = Draft(layer.get)
        else:
            event.run_id, event.story_id = fold(event, draft)
    layer.changed.update(draft.documents())
    _store(layer.changed, entities)


class _Layer:
    """Changes on top of entities that stay as they are: an event that cannot be folded must leave no trace."""

    def __init__(self, entities: Entities) -> None:
        self._entities = entities
        self.changed: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.changed[key] if key in self.changed else self._entities.get(key)

    def forget(self, event: Event) -> None:
        assert event.prd_id is not None  # noqa: S101 - for the type checker: an event that forgets has one
        own, *prefixes = prd_prefixes(event.project, event.prd_id)
        keys = {key for prefix in prefixes for key in self._entities.under(prefix)}
        keys |= {key for key in self.changed if key.startswith(tuple(prefixes))}
        for key in (own, *sorted(keys)):
            if self.get(key) is not None:
                self.changed[key] = None
