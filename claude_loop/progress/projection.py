"""The reducer as the log's projection: it runs in the transaction that appends, so the two never disagree."""

from __future__ import annotations

from collections.abc import Sequence

from claude_loop.eventlog.base import Entities
from claude_loop.events import Event
from claude_loop.progress.draft import Draft
from claude_loop.progress.reducer import fold


class ProgressProjection:
    """Implements ``eventlog.base.Projection``."""

    def apply(self, events: Sequence[Event], entities: Entities) -> None:
        """Fill in each event's ``run_id`` and store the documents that they change together.

        Each event has its ``seq``, ``id`` and ``received_at``.
        """
        draft = Draft(entities.get)
        for event in events:
            event.run_id = fold(event, draft)
        for key, document in draft.documents().items():
            entities.put(key, document)
